"""`noduleserve demo`: phantom, or a series of one's own -> worklist -> Triton -> table, results.csv and report.html."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from noduleserve.client.run import Options, Run
from noduleserve.progress import score_with_progress, summary_lines
from noduleserve.release import Release
from noduleserve.results.outcome import Outcome
from noduleserve.results.report.page import write_report
from noduleserve.server.process import Endpoints, TritonProcess
from noduleserve.worklist.own_series import own_worklist
from noduleserve.worklist.table import read_worklist

from .phantom import make_phantom, write_dicom, write_worklist

RELEASE = Path(__file__).parent / "release"
SHOWN = ("margins", "shape", "consistency")  # of the features: a terminal has no room for all


@dataclass(frozen=True)
class Own:
    """A series of one's own: its folder or file, and the CSV of its nodules' places."""

    series: Path
    nodules: Path


def run_demo(out: Path, release: Path = RELEASE, seed: int = 7, own: Own | None = None) -> Run:
    """Score the phantom's five nodules, or those of another series, and show what came of it.

    Args:
        out: folder for the CT, the worklist, results.csv and report.html.
        release: what to serve.
        seed: of the phantom.
        own: the series to take instead.

    Raises:
        WorklistError: of `own`.
        ServerError, ReleaseError: where the release cannot be served.
    """
    began = time.perf_counter()
    console = Console()
    if own:
        worklist, what = own_worklist(own.series, own.nodules, out), own.series.resolve().name
    else:
        what = "a synthetic chest CT"
        with console.status(f"making {what}"):
            worklist = make_worklist(out, seed)
    with console.status("starting Triton"), TritonProcess(Release.open(release), _ANY_PORTS) as server:
        console.print(f"Triton serves release {server.release.id}: {server.release.manifest['notice']}")
        nodules = read_worklist(worklist)
        run = score_with_progress(nodules, server.endpoints.address, out / "results.csv", Options(views=True))
    write_report(
        out / "report.html",
        run.outcomes,
        run.info,
        stages=run.stages,
        title=f"noduleserve demo: {what}",
        worklist=worklist.name,
        command="noduleserve demo",
    )
    console.print(table_of(run, "the nodules" if own else "the phantom's nodules"))
    for line in summary_lines(run):
        console.print(line, highlight=False)
    console.print(f"{out / 'results.csv'}\n{out / 'report.html'}", highlight=False)
    console.print(f"whole demo: {time.perf_counter() - began:.1f} s", highlight=False)
    return run


_ANY_PORTS = Endpoints(grpc=0, http=0, metrics=0)


def make_worklist(out: Path, seed: int = 7) -> Path:
    """The worklist of a phantom as DICOM files in `out`; made once for each seed."""
    series, worklist = out / f"ct-{seed}", out / f"worklist-{seed}.csv"
    if not worklist.is_file():  # it is written last, so that it stands for a whole series
        phantom = make_phantom(seed)
        write_dicom(phantom, series)
        write_worklist(phantom, series, worklist)
    return worklist


def table_of(run: Run, whose: str) -> Table:
    """The demo's nodules with what a reader wants first."""
    notice = f" ({run.info.notice})" if run.info.notice else ""
    table = Table(title=f"Malignancy of {whose}{notice}")
    for name in ("nodule", "kind"):
        table.add_column(name, no_wrap=True)
    for name in ("mm", "malignancy", "folds, raw"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("some semantic features")
    for outcome in run.outcomes:
        table.add_row(*_cells(outcome, run.info.labels))
    return table


def _cells(outcome: Outcome, labels: tuple[str, ...]) -> list[str]:
    columns, score = outcome.nodule.columns, outcome.score
    cells = [outcome.nodule.nodule_id, columns.get("kind") or columns.get("label", ""), columns.get("diameter_mm", "")]
    if score is None:
        return [*cells, outcome.error_code]
    best: dict[str, tuple[float, str]] = {}
    for label, probability in zip(labels, score.semantic.tolist(), strict=True):
        feature, value = label.split(".", 1)
        if feature in SHOWN:
            best[feature] = max(best.get(feature, (0.0, "")), (probability, value))
    values = ", ".join(f"{value} {probability:.0%}" for probability, value in best.values())
    return [*cells, f"{score.malignancy:.3f}", f"{score.raw.min():.2f}..{score.raw.max():.2f}", values]
