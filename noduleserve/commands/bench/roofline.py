"""`noduleserve bench roofline`: what the encoder costs, what machines could do, what is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noduleserve.release import Release

from ..console import err, extra_missing
from .keeping import OutOption, show_and_keep


def bench_roofline(
    release: Annotated[Path, typer.Argument(help="A release; its encoder is run where its target is `embedded`.")],
    card: Annotated[list[str] | None, typer.Option(help="A GPU by name, several times; default: all known.")] = None,
    turns: Annotated[int, typer.Option(min=1, help="How often everything is timed.")] = 5,
    out: OutOption = None,
) -> None:
    """Operations and bytes of a nodule, this machine's measured limits, what the encoder reaches, what cards allow.

    Example:

        noduleserve bench roofline releases/may --card L4 --card "H100 SXM" --out roofline/
    """
    try:
        from noduleserve.benchmarks.roofline.bench import bench_roofline as measure
        from noduleserve.benchmarks.roofline.cards import CARDS
    except ModuleNotFoundError as error:
        raise extra_missing(error, "export") from None

    if unknown := sorted(set(card or ()) - set(CARDS)):
        raise typer.BadParameter(f"{', '.join(unknown)} is not known; there are {', '.join(CARDS)}.")
    show_and_keep(measure(Release.open(release), card or list(CARDS), turns, tell=err.print), out)
