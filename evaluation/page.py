"""report.html: an evaluation as one file that opens offline, prints, and needs no script and no network."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from . import published, wording
from .as_json import write_whole
from .figures import Evaluation
from .pictures import pictures_of

LISTED = 200  # ids of each kind; the file of numbers has all


def write_page(path: Path, evaluation: Evaluation, *, command: str = "", when: datetime | None = None) -> None:
    """Write the report.

    Args:
        path: of the file; an older one is replaced whole or not at all.
        evaluation: what to show.
        command: the command line, as it may be shown.
        when: when it was made; now, if left out.

    Raises:
        EvaluationError: EVALUATION_UNWRITABLE.
    """
    when = when or datetime.now().astimezone()
    found = evaluation.counts
    page = _template().render(
        e=evaluation,
        m=evaluation.malignancy,
        pictures=pictures_of(evaluation.malignancy) if evaluation.malignancy else [],
        ids={
            "results without labels": found.results_without_label,
            "labels without results": found.labels_without_result,
            "labelled, but not scored": found.failed_labelled,
        },
        listed=LISTED,
        published=published,
        wording=wording,
        command=command,
        when=f"{when:%Y-%m-%d %H:%M %Z}",
    )
    write_whole(path, page)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        plain=wording.plain,
        interval=wording.interval,
        with_interval=wording.with_interval,
        threshold=wording.threshold,
    )
    return environment.get_template("evaluation.html.j2")
