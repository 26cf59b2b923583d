"""The file of numbers: an evaluation as JSON, described by `evaluation.schema.json`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from noduleserve.errors import EvaluationError

from . import published
from .figures import Evaluation

FORMAT = 1
SCHEMA = Path(__file__).parent / "evaluation.schema.json"


def document(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON's kinds of values, without NaN."""
    numbers = dataclasses.asdict(evaluation)
    source = {"source": published.SOURCE, "cohort": published.COHORT, "note": published.NOT_COMPARABLE}
    return {"format": FORMAT, **numbers, "published": source if evaluation.beside else None}


def write_json(path: Path, evaluation: Evaluation) -> None:
    """Write the file of numbers.

    Raises:
        EvaluationError: EVALUATION_UNWRITABLE.
    """
    write_whole(path, json.dumps(document(evaluation), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file of UTF-8, so that an older one of its name is replaced whole or not at all.

    Raises:
        EvaluationError: EVALUATION_UNWRITABLE.
    """
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise EvaluationError(
            "EVALUATION_UNWRITABLE", f"{path.name} cannot be written ({error.strerror}).", "Check its folder."
        ) from None
