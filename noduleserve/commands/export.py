"""`noduleserve export` and `noduleserve reprompt`: a checkpoint becomes a release, a release gets other prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from noduleserve.release import Release

from .console import err, extra_missing

if TYPE_CHECKING:
    from noduleserve.export.proof.chain import ProofViews

CHECKPOINT = typer.Argument(help="Folder with args.txt (published layout) or model.json (open_clip + PEFT).")
OUT = typer.Option(help="Folder of the release; must not exist yet.")
FEATURES = typer.Option(help="YAML of semantic features; default: the built-in one, see `noduleserve features`.")


def export(
    checkpoint: Annotated[Path, CHECKPOINT],
    out: Annotated[Path, OUT],
    target: Annotated[
        Literal["embedded", "onnxruntime", "tensorrt"],
        typer.Option(help="Who runs the encoder: Triton's Python backend on the CPU, or a backend of its container."),
    ] = "embedded",
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8", "fp8"],
        typer.Option(help="embedded: fp32, bf16, int8; onnxruntime: fp32, fp16, bf16; tensorrt: all."),
    ] = "fp32",
    lora_state: Annotated[
        Literal["auto", "merged", "unmerged"],
        typer.Option(help="Whether the weights hold their LoRA update already; auto finds out, or refuses."),
    ] = "auto",
    base: Annotated[
        Path | None,
        typer.Option(help="Weights before fine-tuning; decides --lora-state auto with one fold only."),
    ] = None,
    features: Annotated[Path | None, FEATURES] = None,
    no_calibration: Annotated[bool, typer.Option(help="Leave the checkpoint's calibration out.")] = False,
    reproduce_published: Annotated[
        bool, typer.Option(help="Add fold 0's LoRA update twice, as the published evaluation script does.")
    ] = False,
    worklist: Annotated[
        Path | None, typer.Option(help="Nodules that the parity proof runs on; default: five of a synthetic CT.")
    ] = None,
    allow_parity_failure: Annotated[
        bool, typer.Option(help="Write a release that misses its parity tolerances, marked as failed.")
    ] = False,
    notice: Annotated[str, typer.Option(help="A sentence that every output of the release carries.")] = "",
) -> None:
    """Turn a checkpoint into a verified, immutable release.

    Examples:

        noduleserve export checkpoints/may --out releases/may

        noduleserve export checkpoints/may --out releases/may-int8 --precision int8 --worklist validation.csv

        noduleserve export checkpoints/may --out releases/may-trt --target tensorrt --precision fp16
    """
    try:
        from noduleserve.export.assemble import ExportOptions, export_release
        from noduleserve.export.checkpoint import read_checkpoint
        from noduleserve.export.checkpoint.calibration import folds_of, read_calibration
        from noduleserve.export.targets import Encoding
        from noduleserve.export.text.features import read_features
    except ModuleNotFoundError as error:
        raise extra_missing(error, "export") from None
    options = ExportOptions(Encoding(target, precision), notice, allow_parity_failure)
    wanted = read_features(features)
    with err.status("reading") as status:

        def tell(line: str) -> None:
            status.update(line)
            if not err.is_terminal:
                err.print(line, markup=False)

        # What is quick to find wrong comes first.
        calibration = None if no_calibration else read_calibration(checkpoint, folds_of(checkpoint))
        proof = _proof_views(worklist, tell)
        model = read_checkpoint(
            checkpoint, lora_state=lora_state, base=base, reproduce_published=reproduce_published, tell=tell
        )
        release = export_release(model, calibration, wanted, out, options, proof=proof, tell=tell)
    _say(release)


def _proof_views(worklist: Path | None, tell: Callable[[str], None]) -> ProofViews:
    from noduleserve.export.proof.chain import ProofViews
    from noduleserve.proof_views import phantom_views, views_of
    from noduleserve.worklist.table import read_worklist

    tell("cutting the views of the proof's nodules")
    if worklist:
        return ProofViews(views_of(read_worklist(worklist)), "worklist", 0)
    return ProofViews(phantom_views(), "phantom", 0)


def reprompt(
    release: Annotated[Path, typer.Argument(help="The release whose encoder is taken over.")],
    checkpoint: Annotated[Path, CHECKPOINT],
    out: Annotated[Path, OUT],
    features: Annotated[Path | None, FEATURES] = None,
    base: Annotated[Path | None, typer.Option(help="As at export.")] = None,
    notice: Annotated[str | None, typer.Option(help="Default: that of the release.")] = None,
) -> None:
    """Give a release another set of semantic features, in seconds: a new release with the same image encoder.

    The text towers are read from the checkpoint, whose files must be those that the release was made of.

    Example:

        noduleserve reprompt releases/may checkpoints/may --features my_features.yaml --out releases/may-2
    """
    try:
        from noduleserve.export.reprompt import reprompt as again
        from noduleserve.export.text.features import read_features
    except ModuleNotFoundError as error:
        raise extra_missing(error, "export") from None
    wanted = read_features(features)
    with err.status("checking the release") as status:
        opened = Release.open(release)
        new = again(opened, checkpoint, wanted, out, base=base, notice=notice, tell=lambda line: status.update(line))
    _say(new)


def _say(release: Release) -> None:
    from noduleserve.inspect import page_of

    print(f"release {release.id} in {release.folder}")
    Console(highlight=False).print(page_of(release))
