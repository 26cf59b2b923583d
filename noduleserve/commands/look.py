"""`noduleserve look`: what the model will see of a nodule, as a page or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .console import err

if TYPE_CHECKING:
    from noduleserve.look.sight import Sight
    from noduleserve.worklist.table import Nodule

_SUFFIXES = (".html", ".png")
_TITLE = "A nodule as the model sees it"


def look(
    source: Annotated[
        Path,
        typer.Argument(metavar="SERIES", help="Folder or file of a CT series, or a worklist (.csv)."),
    ],
    center: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="X Y Z", help="The nodule's centre in LPS millimetres, for a series."),
    ] = None,
    series: Annotated[str, typer.Option(metavar="UID", help="Which series, where the folder holds several.")] = "",
    row: Annotated[int | None, typer.Option(min=1, help="Which row of the worklist, from 1.")] = None,
    nodule: Annotated[str | None, typer.Option(metavar="ID", help="Which nodule_id of the worklist.")] = None,
    pid: Annotated[str | None, typer.Option(help="Of which pid, where several have that nodule_id.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that image_path is relative to; default: the worklist's.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write: .html for a page, .png for a picture.")] = Path("look.html"),
    context: Annotated[
        Literal["lung", "soft", "none"],
        typer.Option(help="Window of the planes of the whole volume; `none` leaves them out and reads the box only."),
    ] = "lung",
    crosshair: Annotated[bool, typer.Option(help="Crosshairs at the centre.")] = True,
) -> None:
    """Show what the model will see of one nodule, and where it lies in the CT.

    No server is needed. What would be refused is refused here, with the same code. The output holds no name, date or
    number of a patient, only the series UID.

    Examples:

        noduleserve look ct/series --center -59.67 -15.65 -137.29

        noduleserve look tonight.csv --row 3 --out nodule.png
    """
    if out.suffix.lower() not in _SUFFIXES:
        raise typer.BadParameter(f"the name must end in {' or '.join(_SUFFIXES)}", param_hint="--out")
    if source.suffix.lower() == ".csv" and source.is_file():
        if center is not None or series:
            raise typer.BadParameter("a worklist has its own", param_hint="--center / --series")
        path, series, point, name = _of_worklist(source, root, row, nodule, pid)
    else:
        if center is None or row or nodule is not None or pid is not None or root:
            raise typer.BadParameter(
                "a series takes --center X Y Z; --row, --nodule, --pid and --root are a worklist's"
            )
        path, point, name = source, center, _TITLE
    sight = _see(path, series, point, context=context != "none")
    _write(out, sight, name, context, crosshair)
    for warning in sight.warnings:
        err.print(f"{warning.code}: {warning.what} {warning.mend}", style="yellow", markup=False)
    if sight.unread:
        err.print(sight.unread, style="yellow", markup=False)
    print(out)


def _of_worklist(
    worklist: Path, root: Path | None, row: int | None, nodule_id: str | None, pid: str | None
) -> tuple[Path, str, tuple[float, float, float], str]:
    """Place, series UID and centre of the row that is meant, and a heading that names it by its number only."""
    from noduleserve.errors import WorklistError
    from noduleserve.worklist.table import read_worklist

    nodules = read_worklist(worklist, root)
    meant = nodules if row is None else [n for n in nodules if n.number == row - 1]
    meant = [n for n in meant if nodule_id in (None, n.nodule_id) and pid in (None, n.pid)]
    if len(meant) != 1:
        listed = _listed(meant or nodules)
        raise typer.BadParameter(f"{len(meant)} rows fit, not one: {listed}", param_hint="--row / --nodule / --pid")
    (only,) = meant
    if only.problem or only.center is None:
        raise WorklistError("WORKLIST_ROW", only.problem, "Put this row of the worklist right.")
    return (
        only.image_path,
        only.series_uid,
        only.center,
        f"Row {only.number + 1} of the worklist as the model sees it",
    )


def _listed(nodules: list[Nodule], most: int = 12) -> str:
    shown = ", ".join(f"row {n.number + 1} ({n.pid}, {n.nodule_id})" for n in nodules[:most])
    return shown + (f" and {len(nodules) - most} more" if len(nodules) > most else "")


def _see(path: Path, series: str, center: tuple[float, float, float], *, context: bool) -> Sight:
    """Read what is shown, with a bar on standard error where that is a terminal."""
    from rich.progress import Progress

    from noduleserve.ct.source import open_source
    from noduleserve.look.sight import see

    with (
        open_source(path) as opened,
        Progress(console=err, transient=True, disable=not err.is_terminal) as bar,
    ):
        task = bar.add_task("reading slices", total=None)
        return see(
            opened.volume(series),
            center,
            context=context,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )


def _write(out: Path, sight: Sight, title: str, context: str, crosshair: bool) -> None:
    from noduleserve.errors import NoduleserveError
    from noduleserve.look.page import page_of
    from noduleserve.look.picture import LUNG, WINDOWS, png
    from noduleserve.look.sheet import sheet_of

    window = WINDOWS.get(context, LUNG)
    if out.suffix.lower() == ".png":
        data = png(sheet_of(sight, title=title, window=window, crosshair=crosshair))
    else:
        data = page_of(sight, title=title, window=window, crosshair=crosshair).encode()
    try:
        out.write_bytes(data)
    except OSError as error:
        raise NoduleserveError(
            "RESULTS_UNWRITABLE", f"{out} cannot be written ({error.strerror}).", "Check --out."
        ) from None
