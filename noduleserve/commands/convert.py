"""`noduleserve convert`: a checkpoint from one layout to the other, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .console import err, extra_missing


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Folder with args.txt or model.json, and fold_0, fold_1, ...")],
    to: Annotated[Literal["open_clip+peft", "published"], typer.Option(help="The layout to write.")],
    out: Annotated[Path, typer.Option(help="The new folder; must not exist yet.")],
    lora_state: Annotated[
        Literal["auto", "merged", "unmerged"],
        typer.Option(help="Whether the weights hold their LoRA update already; auto finds out, or refuses."),
    ] = "auto",
    base: Annotated[
        Path | None,
        typer.Option(help="Weights before fine-tuning; decides --lora-state auto with one fold only."),
    ] = None,
) -> None:
    """Write a checkpoint in the other layout; every tensor comes back bit for bit.

    What was written is read back and compared. Calibrations that are plain numbers are taken along.

    Examples:

        noduleserve convert checkpoints/may --to open_clip+peft --out checkpoints/may-peft

        noduleserve convert checkpoints/may-peft --to published --out checkpoints/may-again
    """
    try:
        from noduleserve.export.checkpoint.convert import convert as convert_checkpoint
    except ModuleNotFoundError as error:
        raise extra_missing(error, "export") from None
    with err.status("reading") as status:

        def tell(line: str) -> None:
            status.update(line)

        done = convert_checkpoint(checkpoint, to, out, lora_state=lora_state, base=base, tell=tell)
    print(f"{out}: {done.folds} folds in the layout {done.layout}, the same as before bit for bit")
    if done.lora_state:
        print(f"  LoRA of the published files: {done.lora_state}")
        if done.layout == "published" and done.folds == 1:
            print(f"  one fold does not tell, so name it when exporting: --lora-state {done.lora_state}")
    print(f"  calibrations taken along: {done.calibrations}")
    for file in done.left_behind:
        print(f"  left behind: {file}, a pickle (noduleserve convert-calibration makes numbers of it)")
