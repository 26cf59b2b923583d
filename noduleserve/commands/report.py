"""`noduleserve report`: what a night made of its worklist, as one page."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noduleserve.errors import NoduleserveError
from noduleserve.release import Release

from .console import err

if TYPE_CHECKING:
    from noduleserve.results.outcome import Outcome, ReleaseInfo
    from noduleserve.results.report.about import Parity
    from noduleserve.results.report.night import Night
    from noduleserve.results.report.nodules import Views
    from noduleserve.results.report.verdict import Verdict


TOP = 12
_PART = "This table is of a run that broke off or still goes on: nodules are missing from it."


def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Journal of a run, or its results.csv.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
    worklist: Annotated[
        Path | None, typer.Option(help="The worklist: its rows without an outcome are named with their ids.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Journal or results.csv of a night to hold the distribution of scores against.")
    ] = None,
    release: Annotated[
        Path | None, typer.Option(help="Folder of the release that scored: adds its parity and its notice.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that image_path of a table is relative to; default: the worklist's.")
    ] = None,
    top: Annotated[int, typer.Option(min=0, max=200, help="Nodules of highest malignancy to show in full.")] = TOP,
    views: Annotated[bool, typer.Option(help="Read their nine views again from the CT.")] = True,
) -> None:
    """Write the morning report of a run: one HTML file, without any request to elsewhere.

    What went in and what came out, parked nodules with their reasons, the nodules to look at first, the distribution
    of scores, the course of the night, and scanners. A journal has all of it; what results.csv lacks is left out, and
    the page says so. Exit status: 0 all scored, 3 some parked or without an outcome, 1 no report.

    Examples:

        noduleserve report tonight.journal --out report.html --worklist tonight.csv --release releases/may

        noduleserve report results.csv --out report.html --reference last-month.journal --no-views
    """
    night, verdict = write_morning_report(results, out, worklist, reference, release, root, top, views)
    print(verdict.sentence)
    print(f"report: {out}")
    if night.parked or verdict.state == "incomplete":
        raise typer.Exit(3)


def write_morning_report(
    results: Path,
    out: Path,
    worklist: Path | None = None,
    reference: Path | None = None,
    release: Path | None = None,
    root: Path | None = None,
    top: int = TOP,
    views: bool = True,
) -> tuple[Night, Verdict]:
    """What the command does, with its arguments.

    Raises:
        NoduleserveError: RESULTS_UNREADABLE, RESULTS_UNWRITABLE, and those of journal, worklist and release.
    """
    from noduleserve.results.report.about import About
    from noduleserve.results.report.night import info_of
    from noduleserve.results.report.page import Reference, write_night

    source = _read(results, root or (worklist.parent if worklist else None), top)
    night = source.night
    opened = Release.open(release) if release else None
    info = info_of(night, source.info, source.labels, _notice(source, opened))
    if opened and not info.release:  # nothing was scored: the release is known all the same
        info = replace(info, release=opened.id)
    before = Reference(reference.name, _read(reference, None, 1).night) if reference else None
    verdict = _verdict(source, worklist)
    about = About(
        when=datetime.now().astimezone(),
        title="Morning report",
        worklist=worklist.name if worklist else source.worklist,
        results=results.name,
        command=shlex.join(["noduleserve", *sys.argv[1:]]),
        preprocessing=source.preprocessing or _preprocessing(opened, info.release),
        parity=_parity(opened) if opened and opened.id == info.release else None,
        meanings=_meanings(),
        alarms=(*source.alarms, *_alarms(opened, info)),
        left_out=(*source.lacks, *_left_out(night, verdict, worklist, reference, opened, views)),
    )
    write_night(out, night, verdict, info, about, _views(night, views), reference=before)
    return night, verdict


@dataclass(frozen=True)
class _Source:
    """What a journal or a table says of a night."""

    night: Night
    labels: tuple[str, ...]
    info: ReleaseInfo | None = None
    rows: int | None = None
    worklist: str = ""
    notice: str = ""
    preprocessing: str = ""
    lacks: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()


def _read(path: Path, root: Path | None, top: int) -> _Source:
    """One pass over a journal or a table, told apart by how the file begins."""
    from noduleserve.journal.line import START

    try:
        with path.open("rb") as file:
            journal = file.read(len(START)) == START
    except OSError as error:
        raise NoduleserveError(
            "RESULTS_UNREADABLE", f"{path.name} cannot be read ({error.strerror}).", "Check the path."
        ) from None
    with err.status(f"reading {path.name}"):
        return _of_journal(path, top) if journal else _of_table(path, root, top)


def _of_journal(path: Path, top: int) -> _Source:
    from noduleserve.journal.contents import Contents
    from noduleserve.results.report.night import gather

    with Contents.open(path) as journal:
        night = gather(((record.outcome, record.time.timestamp()) for record in journal.rows()), top)
        run = journal.run
    if run is None:
        return _Source(night, (), alarms=("No run has begun in this journal.",))
    lacks = () if night.groups.known or not night.total else ("The journal has no scanner for any nodule.",)
    return _Source(night, run.info.labels, run.info, run.rows, run.worklist, run.info.notice, run.preprocessing, lacks)


def _of_table(path: Path, root: Path | None, top: int) -> _Source:
    from noduleserve.results.report.from_table import ResultsTable
    from noduleserve.results.report.night import gather

    table = ResultsTable(path, root)
    night = gather(table.outcomes(), top)
    alarms = (_PART,) if path.suffix == ".part" else ()
    return _Source(night, table.labels, notice=table.notice, lacks=tuple(table.lacks), alarms=alarms)


def _verdict(source: _Source, worklist: Path | None) -> Verdict:
    from noduleserve.results.report.verdict import of_rows, of_worklist
    from noduleserve.worklist.table import read_worklist

    if worklist is None:
        return of_rows(source.night, source.rows, "the journal" if source.rows is not None else "")
    return of_worklist(source.night, read_worklist(worklist))


def _views(night: Night, wanted: bool) -> list[Views]:
    from noduleserve.results.report.reread import reread

    top: list[Outcome] = night.top
    if not wanted:
        return ["The report was made with --no-views."] * len(top)
    with err.status("reading views from the CT"):
        return reread(top)


def _notice(source: _Source, opened: Release | None) -> str:
    """Of the release that scored: as the results have it, or its folder, or the release that comes with the package."""
    if source.notice:
        return source.notice
    notices: dict[str, str] = {}
    with contextlib.suppress(OSError):
        text = resources.files("noduleserve.demo").joinpath("release", "MANIFEST.json").read_text(encoding="utf-8")
        demo = json.loads(text)
        notices[demo["release_id"]] = demo["notice"]
    if opened:
        notices[opened.id] = opened.manifest["notice"]
    return " ".join(dict.fromkeys(notices[r] for r in source.night.releases if notices.get(r)))


def _preprocessing(opened: Release | None, release: str) -> str:
    return str(opened.manifest["preprocessing"]) if opened and opened.id == release else ""


def _parity(opened: Release) -> Parity:
    from noduleserve.results.report.about import Parity, ParityLine

    manifest: dict[str, Any] = opened.manifest
    parity = manifest["parity"]
    lines = [
        ParityLine(
            f"{link['name']} ({link['before']} -> {link['after']})",
            max(link["largest"]["probability"]),
            link["tolerance"]["probability"],
        )
        for link in parity["links"]
    ]
    lines.append(ParityLine("slots of a batch", parity["slots"]["largest"], parity["slots"]["tolerance"]))
    proof = f"{parity['nodules']} nodules ({parity['source']})"
    notes = tuple(f"Not run at export: {line}." for line in parity["not_run"])
    return Parity(proof, tuple(lines), bool(manifest["parity_failed"]), notes)


def _alarms(opened: Release | None, info: ReleaseInfo) -> tuple[str, ...]:
    alarms = []
    if opened and opened.id != info.release:
        alarms.append(
            f"The release folder given is {opened.id}, not the release that scored ({info.release}): "
            "its parity says nothing about these scores."
        )
    elif opened and opened.manifest["parity_failed"]:
        alarms.append("This release missed its parity tolerances when it was exported.")
    return tuple(alarms)


def _left_out(
    night: Night, verdict: Verdict, worklist: Path | None, reference: Path | None, opened: Release | None, views: bool
) -> Iterator[str]:
    if verdict.state == "unchecked":
        yield "Whether every row of the worklist has an outcome: give --worklist."
    elif verdict.missing and worklist is None:
        yield "The ids of rows without an outcome: give --worklist."
    if reference is None:
        yield "How scores shifted against another night: give --reference."
    if opened is None:
        yield "Parity of the release: give --release."
    if not views and night.top:
        yield "Views of the nodules: --no-views."


def _meanings() -> dict[str, str]:
    from noduleserve.client.codes import CLIENT_CODES, MODEL_CODES, REQUEST_CODES
    from noduleserve.results.report.about import MEANINGS

    return {**CLIENT_CODES, **MODEL_CODES, **REQUEST_CODES, **MEANINGS}
