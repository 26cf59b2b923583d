"""Running the chain: every fold in PyTorch twice, then the graph, then what is served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.export.checkpoint import Checkpoint
from noduleserve.export.targets import MAX_BATCH, Encoding
from noduleserve.export.text.features import Features
from noduleserve.export.text.text_bank import TextBank, require_short_prompts, value_embeddings
from noduleserve.served_engine import load_engine_module

from .outputs import Encode, Outputs, alone, in_parts, onnx_encoder
from .parity import TOLERANCE, Link, Parity, measure_decisions, measure_link, measure_slots
from .torch_model import TorchModel

AT_ONCE = 4  # nodules in one forward pass of PyTorch, which bounds its memory


@dataclass(frozen=True, eq=False)
class ProofViews:
    """The nodules of a proof.

    Attributes:
        views: [N,9,50,50], 0..1.
        source: where they came from, such as `synthetic + phantom`.
        stored: how many of the first are synthetic, and may be stored in a release.
    """

    views: NDArray[np.float32]
    source: str
    stored: int


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What PyTorch makes of the views and the prompts, all folds stacked.

    Attributes:
        bank: the text bank.
        merged: outputs of the merged weights.
        unmerged: outputs with LoRA beside the weights; None where there is no LoRA.
    """

    bank: TextBank
    merged: Outputs
    unmerged: Outputs | None


def run_torch(
    checkpoint: Checkpoint, features: Features, views: NDArray[np.float32], tell: Callable[[str], None]
) -> Yardstick:
    """Everything that needs the model in PyTorch, fold by fold, so that only one fold is in memory twice."""
    model = TorchModel(checkpoint.dimensions)
    require_short_prompts(features, model)
    texts, images = [], []
    for number, fold in enumerate(checkpoint.folds):
        tell(f"fold {number}: text bank, and {len(views)} nodules in PyTorch")
        model.load(fold)
        texts.append(value_embeddings(features, model))
        images.append(in_parts(model.encode_views, views, AT_ONCE))
    bank = TextBank.of(features, checkpoint.folds, texts)
    return Yardstick(bank, _stacked(images), _run_unmerged(checkpoint, views, tell))


def _run_unmerged(checkpoint: Checkpoint, views: NDArray[np.float32], tell: Callable[[str], None]) -> Outputs | None:
    if not checkpoint.updates:
        return None
    from noduleserve.export.checkpoint.unmerged import UnmergedModel

    model, images = UnmergedModel(checkpoint), []
    for number in range(len(checkpoint.folds)):
        tell(f"fold {number}: the same with LoRA beside the weights")
        model.load(number)
        images.append(in_parts(model.encode_views, views, AT_ONCE))
    return _stacked(images)


def prove(
    yardstick: Yardstick,
    proof: ProofViews,
    encoding: Encoding,
    graph: Path,
    served: Encode,
    *,
    emulated: str = "",
    batch_sizes: tuple[int, ...] = tuple(range(1, MAX_BATCH + 1)),
    tell: Callable[[str], None] = lambda _: None,
) -> Parity:
    """Measure the chain.

    Args:
        yardstick: what PyTorch makes of the views.
        proof: the views.
        encoding: target and precision.
        graph: the FP32 graph.
        served: the encoder as it is served, or as near to it as this machine can.
        emulated: why `served` is the CPU's emulation of a precision that this machine lacks, or "".
        batch_sizes: to fill for the slots.
        tell: is called with a line of progress before each long step.
    """
    torch_merged = ("PyTorch, merged", yardstick.merged)
    links: list[Link] = []
    if yardstick.unmerged is not None:
        before = ("PyTorch, LoRA beside the weights", yardstick.unmerged)
        links.append(measure_link("merge", before, torch_merged, TOLERANCE["merge"]))
    tell("the graph in FP32 on ONNX Runtime")
    fp32 = served if encoding.precision == "fp32" else onnx_encoder(graph)
    single = alone(fp32)(proof.views)
    full = ("one graph in FP32, ONNX Runtime", single)
    links.append(measure_link("graph", torch_merged, full, TOLERANCE["graph"]))
    decisions, not_run = None, []
    if encoding.precision != "fp32":
        tell(f"the encoder in {encoding.precision}")
        how = "emulated on the CPU" if emulated else encoding.target
        single = alone(served)(proof.views)
        after = (f"the graph in {encoding.precision}, {how}", single)
        links.append(measure_link("precision", full, after, TOLERANCE[encoding.precision]))
        decisions = measure_decisions(full[1], single)
    if emulated:
        not_run.append(f"{encoding.precision} itself: {emulated}")
    if encoding.target != "embedded":
        not_run.append(f"the encoder on a GPU: target {encoding.target} runs on the serving machine, verify it there")
    tell("every slot of every batch size")
    slots = measure_slots(served, proof.views, single, batch_sizes, encoding.slots_tolerance)
    return Parity(proof.source, len(proof.views), tuple(links), slots, decisions, not_run)


def embedded_encoder(version: Path) -> tuple[Encode, str]:
    """The encoder of an embedded release, run by the very code that Triton runs: nodule_encoder/1/engine.py.

    Returns:
        The encoder, and why it does not run as the release prefers on this machine, or "".
    """
    engine = load_engine_module(version).open_engine(version)
    return lambda views: Outputs(*engine(views)[:3]), engine.lacking


def _stacked(folds: list[Outputs]) -> Outputs:
    return Outputs(*(np.stack(part, axis=1) for part in zip(*folds, strict=True)))
