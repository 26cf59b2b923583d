"""`noduleserve journal`: what a journal holds, whether it is whole, and a whole one made of a damaged one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import err

if TYPE_CHECKING:
    from noduleserve.journal.contents import Contents


def journal(
    path: Annotated[Path, typer.Argument(metavar="JOURNAL", help="The journal of a run; it may be running.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every line; list the damaged ones.")] = False,
    mend: Annotated[
        bool, typer.Option("--mend", help="Make a journal of the whole lines; the damaged one is kept as JOURNAL.1.")
    ] = False,
) -> None:
    """Say what a journal holds: nodules scored and parked, releases, times, and whether its end is torn.

    Nothing is changed without --mend, and nothing of a patient is printed. Exit status: 0 whole, 1 damaged.

    Examples:

        noduleserve journal results.csv.journal

        noduleserve journal results.csv.journal --verify

        noduleserve journal results.csv.journal --mend
    """
    from noduleserve.journal.contents import Contents

    if verify and mend:
        raise typer.BadParameter("--mend verifies by itself", param_hint="--verify")
    if verify:
        _verify(path)
    if mend:
        _mend(path)
    with Contents.open(path) as contents:
        print("\n".join(_lines(contents)))


def _verify(path: Path) -> None:
    from noduleserve.journal.mending import verify

    good, bad = verify(path)
    for place in bad:
        state = "torn end, never counted" if place.torn else "damaged"
        print(f"line {place.number}, {place.length} bytes at {place.offset}: {place.how} ({state})")
    print(f"{good} lines are as they were written, {len(bad)} are not")
    if not all(place.torn for place in bad):
        err.print(f"noduleserve journal {path.name} --mend keeps every whole line.", markup=False)
        raise typer.Exit(1)


def _mend(path: Path) -> None:
    from noduleserve.journal.mending import mend

    left_out, aside = mend(path)
    if aside is None:
        print("every line is whole; nothing was changed")
    else:
        print(f"{left_out} of the lines left out; the journal as it was is kept as {aside.name}")


def _lines(contents: Contents) -> list[str]:
    from noduleserve.journal.contents import SCORED

    codes: Counter[str] = Counter()
    releases: dict[str, Counter[bool]] = {}
    for (release, code), number in contents.counts().items():
        codes[code] += number
        releases.setdefault(release, Counter())[code == SCORED] += number
    lines = [f"{contents.count} nodules: {codes[SCORED]} scored, {contents.count - codes[SCORED]} parked"]
    lines += [f"  {number:6} {code}" for code, number in codes.most_common() if code != SCORED]
    lines += [f"release {r}: {n[True]} scored, {n[False]} parked" for r, n in sorted(releases.items())]
    if contents.first and contents.last:
        lines.append(f"from {contents.first:%Y-%m-%d %H:%M:%S} to {contents.last:%Y-%m-%d %H:%M:%S} UTC")
    if run := contents.run:
        rows = f"{run.rows - contents.missing} of {run.rows} rows have an outcome"
        lines.append(f"last run: {run.worklist}, begun {run.time:%Y-%m-%d %H:%M:%S} UTC; {rows}")
        if run.info.notice:
            lines.append(f"  {run.info.notice}")
    if contents.torn_bytes:
        lines.append(f"the last {contents.torn_bytes} bytes are a torn line, which never counted (or is being written)")
    return lines
