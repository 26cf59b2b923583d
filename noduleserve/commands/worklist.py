"""`noduleserve worklist`: what radiologists have marked becomes a worklist."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .console import err

if TYPE_CHECKING:
    from noduleserve.worklist.collect import Collected, Collector

_LISTED = 20  # failures that are listed one by one


def worklist(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FROM...", help="Files with marked nodules, or folders to look for them in.")
    ],
    out: Annotated[Path, typer.Option(help="The worklist to write, a CSV.")],
    series: Annotated[
        Path | None,
        typer.Option(
            help="The CT: the folder of a DICOM series, a folder with several (each source finds the one that it "
            "names), or a volume in one file. Default: the series that the source names, in its own folder or below."
        ),
    ] = None,
    pid: Annotated[str, typer.Option(help="Patient id of every row. Default: PatientID, else the file's name.")] = "",
    kind: Annotated[
        Literal["auto", "lidc", "rtstruct", "seg", "sr", "mask"],
        typer.Option(help="What the sources are; auto looks into each. In a folder, images are masks only with mask."),
    ] = "auto",
    roi: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Take the RTSTRUCT structures, SEG segments and SR tracking identifiers whose name matches. Default: "
            "structures and segments whose name or type says nodule, lesion, mass, tumour, neoplasm, metastasis, "
            "carcinoma, cancer or GTV (no other, and no organ); every measurement group of an SR.",
        ),
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="Take nodules below 3 mm too, which LIDC readers mark with one point.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the worklist if it is there already.")] = False,
) -> None:
    """Make a worklist out of what radiologists have marked: one row a nodule, its centre in LPS millimetres.

    **lidc**: XML of LIDC-IDRI; the outlines of up to four readers are joined to nodules, the centre is the mean of
    the centroids that they enclose. **rtstruct**: DICOM structure sets; the centroid of what a structure encloses, or
    its points. **seg**: DICOM segmentations; each connected component of a segment. **sr**: DICOM SR of TID 1500; each
    measurement group. **mask**: NIfTI, NRRD or MetaImage; each value, or each connected component where there is one
    value only.

    Beside the columns that `score` needs there are series_uid, source, source_kind, label, diameter_mm (of the sphere
    of the same volume) and readers. A source that cannot be used does not stop the others.
    Exit status: 0 all sources used, 3 some not, 1 no worklist written.

    Examples:

        noduleserve worklist LIDC-IDRI-0003/ --out tonight.csv

        noduleserve worklist structures.dcm --series ct/ --roi '^GTV' --out tonight.csv

        noduleserve worklist segmentations/ reports/ --series archive/ --out tonight.csv

        noduleserve worklist mask.nii.gz --series ct.nii.gz --pid P-17 --out tonight.csv
    """
    from noduleserve.worklist.collect import Collector, find_sources
    from noduleserve.worklist.sources.base import Choice
    from noduleserve.worklist.write import check_new, write_worklist

    check_new(out, force)
    collector = Collector(series, pid, Choice(_pattern(roi), small))
    with err.status("looking for sources"):
        found = [(path, its) for path, its in find_sources(sources, kind) if path != series]
    done = _collect_all(collector, found)
    rows = [row for one in done for row in one.rows]
    failed = [one for one in done if one.error is not None]
    for line in failure_lines(failed):
        err.print(line, style="red", markup=False)
    if not rows:
        err.print(f"noduleserve: no nodule in {len(done)} sources; {out} is not written", style="red", markup=False)
        raise typer.Exit(1)
    write_worklist(out, rows, force=force)
    for line in summary_lines(done):
        print(line)
    print(f"worklist: {out}")
    if failed:
        raise typer.Exit(3)


def _pattern(roi: str | None) -> re.Pattern[str] | None:
    try:
        return None if roi is None else re.compile(roi, re.IGNORECASE)
    except re.error as error:
        raise typer.BadParameter(f"not a regular expression ({error})", param_hint="--roi") from error


def _collect_all(collector: Collector, found: Sequence[tuple[Path, str]]) -> list[Collected]:
    """Read every source, with a progress bar on standard error where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        return [collector.collect(path, kind) for path, kind in bar.track(found)]


def failure_lines(failed: Sequence[Collected]) -> list[str]:
    """Why sources were not used, one a line, and only their number beyond the first."""
    lines = [f"{one.source}: {one.error}" for one in failed[:_LISTED]]
    if len(failed) > _LISTED:
        lines.append(f"and {len(failed) - _LISTED} more sources that could not be used")
    return lines


def summary_lines(done: Sequence[Collected]) -> list[str]:
    """How many nodules of how many sources, of which kinds, what was left out, what is still lacking."""
    rows = [row for one in done for row in one.rows]
    failed = sum(one.error is not None for one in done)
    patients = len({row.pid for row in rows})
    lines = [f"{len(rows)} nodules of {patients} patients from {len(done) - failed} sources, {failed} not used"]
    kinds = Counter(row.kind for row in rows)
    lines += [f"  {count} from {kind}" for kind, count in kinds.most_common()]
    lines += [f"  left out of {one.source.name}: {what}" for one in done[:_LISTED] for what in one.left_out]
    without = sum(row.image is None for row in rows)
    if without:
        lines.append(f"  {without} rows have no image_path: their CT was not found (give it with --series)")
    return lines
