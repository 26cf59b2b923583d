"""Putting a release together: the encoder first, then the proof, then the seal."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from noduleserve.manifest import check_schema
from noduleserve.release import REPOSITORY, Release, seal

from .checkpoint import Checkpoint
from .checkpoint.calibration import Numbers
from .encoder.embedded import write_embedded
from .encoder.encoder_graph import build_encoder
from .encoder.identity import encoder_id, stamp
from .encoder.save import save_model
from .manifest import facts_of, manifest_of
from .new_folder import new_folder
from .proof.chain import ProofViews, Yardstick, embedded_encoder, prove, run_torch
from .proof.outputs import Encode, alone, onnx_encoder, synthetic_views
from .proof.parity import Parity
from .proof.report import write_report
from .repository import write_repository
from .targets import MAX_BATCH, QUANTISED, TYPED, Encoding
from .text.features import Features

SYNTHETIC = 4  # nodules of every proof that no patient ever had: a release stores them, and `verify` runs them again


@dataclass(frozen=True)
class ExportOptions:
    """How a checkpoint becomes a release.

    Attributes:
        encoding: target and precision.
        notice: a sentence that every output must carry, such as "demonstration model, not for diagnosis".
        allow_parity_failure: write a release that misses a tolerance, marked.
        batch_sizes: whose slots are all filled in the proof.
    """

    encoding: Encoding = field(default_factory=Encoding)
    notice: str = ""
    allow_parity_failure: bool = False
    batch_sizes: tuple[int, ...] = tuple(range(1, MAX_BATCH + 1))


def export_release(
    checkpoint: Checkpoint,
    calibration: list[Numbers] | None,
    features: Features,
    out: Path,
    options: ExportOptions | None = None,
    *,
    proof: ProofViews | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Release:
    """Write a release; nothing is left behind if anything fails.

    Args:
        checkpoint: the model.
        calibration: a, b, c of each fold, or None.
        features: what the text bank is made of.
        out: the release's folder; must not exist or be empty.
        options: target, precision and what else is chosen; by default embedded, FP32.
        proof: nodules that the parity proof runs on, beside the synthetic ones; None for those alone.
        tell: is called with a line of progress before each long step.

    Raises:
        ReleaseError: OUT_NOT_EMPTY.
        ParityError: PARITY_MISSED.
        CheckpointError: PROMPT_TOO_LONG.
    """
    with new_folder(out) as work:
        _write(checkpoint, calibration, features, work, options or ExportOptions(), with_synthetic(proof), tell)
    return Release.open(out)


def with_synthetic(proof: ProofViews | None) -> ProofViews:
    """The synthetic nodules, and after them those that are given."""
    own = synthetic_views(SYNTHETIC)
    if proof is None:
        return ProofViews(own, "synthetic", SYNTHETIC)
    return ProofViews(np.concatenate([own, proof.views]), f"synthetic + {proof.source}", SYNTHETIC)


def _write(
    checkpoint: Checkpoint,
    calibration: list[Numbers] | None,
    features: Features,
    work: Path,
    options: ExportOptions,
    proof: ProofViews,
    tell: Callable[[str], None],
) -> None:
    encoding, repository = options.encoding, work / REPOSITORY
    facts = facts_of(len(checkpoint.folds), calibration is not None, features, options.notice)
    write_repository(repository, facts, checkpoint.dimensions.out, encoding.target)
    with tempfile.TemporaryDirectory(prefix=".scratch.", dir=work) as scratch:
        identity, full, served, emulated = _write_encoder(checkpoint, work, Path(scratch), encoding, proof, tell)
        yardstick = run_torch(checkpoint, features, proof.views, tell)
        sizes = options.batch_sizes
        parity = prove(yardstick, proof, encoding, full, served, emulated=emulated, batch_sizes=sizes, tell=tell)
    if not options.allow_parity_failure:
        parity.require()
    tell("assembling the release")
    similarity = repository / "nodule_similarity" / "1"
    yardstick.bank.save(similarity / "text_bank.npz")
    (similarity / "encoder_id.json").write_text(json.dumps(identity) + "\n")
    (similarity / "calibration.json").write_text(json.dumps(calibration, indent=1) + "\n")
    manifest = manifest_of(checkpoint, calibration, features, encoding, identity, parity, facts)
    _write_evidence(work, parity, yardstick, proof)
    check_schema(seal(work, manifest).manifest)


def _write_encoder(
    checkpoint: Checkpoint,
    work: Path,
    scratch: Path,
    encoding: Encoding,
    proof: ProofViews,
    tell: Callable[[str], None],
) -> tuple[list[int], Path, Encode, str]:
    """Write the encoder of the target.

    Returns:
        Its id; the FP32 graph on disk; the encoder as it is served, or as near to it as this machine can; why that is
        an emulation, or "".
    """
    tell(f"writing the image encoder of {len(checkpoint.folds)} folds as one graph")
    graph = build_encoder(checkpoint.folds, checkpoint.dimensions)
    identity = encoder_id(graph, tag=encoding.tag)
    stamp(graph, identity)
    number, target = identity.tolist(), work / encoding.graph_file
    target.parent.mkdir(parents=True, exist_ok=True)
    if encoding.target == "embedded":
        write_embedded(graph, target.parent, cast(Any, encoding.precision), tell=tell)
        del graph
        served, lacking = embedded_encoder(target.parent)
        if lacking:  # it would fall back to FP32, and prove nothing of its precision
            served = alone(_emulation(checkpoint, scratch, encoding, identity, tell))
        return number, target, served, lacking
    full = target if encoding.precision == "fp32" else scratch / "full.onnx"
    save_model(graph, full)
    del graph
    if encoding.precision in QUANTISED:
        from .encoder.modelopt import quantize

        tell(f"quantising the graph to {encoding.precision} with NVIDIA ModelOpt")
        quantize(full, proof.views, target, encoding.precision)
        return number, full, onnx_encoder(target), ""
    if encoding.precision in TYPED:
        tell(f"writing the graph in {encoding.precision}")
        typed = build_encoder(checkpoint.folds, checkpoint.dimensions, cast(Any, encoding.precision))
        stamp(typed, identity)
        save_model(typed, target)
        del typed
        return number, full, _emulation(checkpoint, scratch, encoding, identity, tell), "it takes a GPU"
    return number, full, onnx_encoder(full), ""


def _emulation(
    checkpoint: Checkpoint, scratch: Path, encoding: Encoding, identity: NDArray[np.int32], tell: Callable[[str], None]
) -> Encode:
    """The graph of a precision that this machine lacks, every result of it rounded to that precision."""
    tell(f"emulating {encoding.precision} on the CPU")
    graph = build_encoder(checkpoint.folds, checkpoint.dimensions, cast(Any, encoding.precision), emulate=True)
    stamp(graph, identity)
    save_model(graph, scratch / "emulated.onnx")
    return onnx_encoder(scratch / "emulated.onnx")


def _write_evidence(work: Path, parity: Parity, yardstick: Yardstick, proof: ProofViews) -> None:
    """parity.json, the picture of it, and what `verify` needs to run the proof again: of synthetic nodules only."""
    (work / "parity.json").write_text(json.dumps(parity.as_dict(), indent=1) + "\n")
    write_report(work / "report.html", parity)
    merged = {f"reference_{k}": v[: proof.stored] for k, v in yardstick.merged._asdict().items()}
    np.savez(work / "proof.npz", views=proof.views[: proof.stored], **merged)
