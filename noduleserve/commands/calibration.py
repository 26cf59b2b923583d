"""`noduleserve convert-calibration`: published pickles become plain numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import err, extra_missing


def convert_calibration(
    checkpoint: Annotated[Path, typer.Argument(help="Folder with fold_0/cal_0.pkl, fold_1/cal_1.pkl, ...")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the pickles are trusted.")] = False,
) -> None:
    """Turn published calibration pickles into plain numbers, fold_K/calibration.json.

    Opening a pickle can run any code that is in it: do it only with files whose origin you trust.

    Example:

        noduleserve convert-calibration checkpoints/may --yes
    """
    try:
        import joblib  # noqa: F401
    except ModuleNotFoundError as error:
        raise extra_missing(error, "calibration") from None
    from noduleserve.export.checkpoint.calibration import convert_calibration as convert

    err.print("Opening a pickle can run any code that is in it.", style="yellow")
    if not yes:
        typer.confirm("Do you trust these files?", abort=True, err=True)
    for file in convert(checkpoint):
        print(f"{file}: {file.read_text().strip()}")
