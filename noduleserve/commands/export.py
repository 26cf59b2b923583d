"""`noduleserve export`: a checkpoint becomes a release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .console import err, extra_missing


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder with args.txt and fold_0, fold_1, ...")],
    out: Annotated[Path, typer.Option(help="Folder of the release; must not exist yet.")],
    lora_state: Annotated[
        Literal["auto", "merged", "unmerged"],
        typer.Option(help="Whether the weights hold their LoRA update already; auto finds out, or refuses."),
    ] = "auto",
    base: Annotated[
        Path | None,
        typer.Option(help="Weights before fine-tuning; decides --lora-state auto with one fold only."),
    ] = None,
    features: Annotated[Path | None, typer.Option(help="YAML of semantic features; default: the built-in one.")] = None,
    no_calibration: Annotated[bool, typer.Option(help="Leave the checkpoint's calibration out.")] = False,
    reproduce_published: Annotated[
        bool, typer.Option(help="Add fold 0's LoRA update twice, as the published evaluation script does.")
    ] = False,
    notice: Annotated[str, typer.Option(help="A sentence that every output of the release carries.")] = "",
) -> None:
    """Turn a checkpoint into a verified, immutable release.

    Examples:

        noduleserve export checkpoints/may --out releases/may

        noduleserve export checkpoints/may --out releases/may --lora-state merged --features my_features.yaml
    """
    try:
        from noduleserve.export.assemble import export_release
        from noduleserve.export.checkpoint import read_checkpoint
        from noduleserve.export.checkpoint.calibration import read_calibration
        from noduleserve.export.text.features import read_features
    except ModuleNotFoundError as error:
        raise extra_missing(error, "export") from None
    wanted = read_features(features)
    with err.status("reading") as status:

        def tell(line: str) -> None:
            status.update(line)

        model = read_checkpoint(
            checkpoint, lora_state=lora_state, base=base, reproduce_published=reproduce_published, tell=tell
        )
        calibration = None if no_calibration else read_calibration(checkpoint, len(model.folds))
        release = export_release(model, calibration, wanted, out, notice=notice, tell=tell)
    print(f"release {release.id} in {out}")
    print(f"  {len(model.folds)} folds, LoRA {model.lora_state} (decided by {model.decided_by}), ", end="")
    print("calibrated" if calibration else "not calibrated")
    figures = release.manifest["parity"]
    for name, largest in figures["largest"].items():
        print(f"  parity {name}: {largest:.2g} (at most {figures['tolerance'][name]:g})")
