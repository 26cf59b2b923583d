"""Putting a release together: proof first, then the model repository, then the seal."""

from __future__ import annotations

import datetime
import json
import platform
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import onnx

import noduleserve
from noduleserve.errors import ReleaseError
from noduleserve.preprocessing import PREPROCESSING_VERSION
from noduleserve.release import REPOSITORY, Release, seal

from .checkpoint import Checkpoint
from .checkpoint.calibration import Numbers
from .encoder.encoder_graph import build_encoder
from .encoder.identity import encoder_id, stamp
from .proof.parity import Encoder, Parity, compare, parity_views
from .proof.torch_model import TorchModel
from .text.features import Features
from .text.text_bank import TextBank, require_short_prompts, scale_of, value_embeddings

TARGET, PRECISION = "embedded", "fp32"
MAX_BATCH = 8
_TOOLS = ("numpy", "onnx", "onnxruntime", "torch", "open_clip_torch")
_LICENCES = [
    "noduleserve, its Triton models and the vendored preprocessing: Apache-2.0.",
    "The weights: as their owner licenses them. CLIP ViT base weights by OpenAI are under the MIT licence.",
]


def export_release(
    checkpoint: Checkpoint,
    calibration: list[Numbers] | None,
    features: Features,
    out: Path,
    *,
    notice: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> Release:
    """Write a release of target `embedded` in FP32; nothing is left behind if anything fails.

    Args:
        checkpoint: the model.
        calibration: a, b, c of each fold, or None.
        features: what the text bank is made of.
        out: the release's folder; must not exist or be empty.
        notice: a sentence that every output of the release must carry, such as "untrained demo weights".
        tell: is called with a line of progress before each long step.

    Raises:
        ReleaseError: OUT_NOT_EMPTY.
        ParityError: PARITY_MISSED.
        CheckpointError: PROMPT_TOO_LONG.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ReleaseError(
            "OUT_NOT_EMPTY",
            f"{out} exists and is not an empty folder.",
            "Releases are never edited: name a new folder.",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        work.chmod(0o755)
        _write(checkpoint, calibration, features, work, notice, tell)
        if out.exists():
            out.rmdir()
        work.rename(out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return Release.open(out)


def _write(
    checkpoint: Checkpoint,
    calibration: list[Numbers] | None,
    features: Features,
    work: Path,
    notice: str,
    tell: Callable[[str], None],
) -> None:
    encoder = work / "encoder.onnx"
    tell(f"writing the image encoder of {len(checkpoint.folds)} folds as one graph")
    graph = build_encoder(checkpoint.folds, checkpoint.dimensions)
    identity = encoder_id(graph)
    stamp(graph, identity)
    onnx.save(graph, encoder)
    bank, parity = _text_and_proof(checkpoint, features, encoder, tell)
    tell("assembling the model repository")
    facts = {
        "folds": len(checkpoint.folds),
        "calibrated": calibration is not None,
        "labels": features.labels,
        "notice": notice,
        "preprocessing": PREPROCESSING_VERSION,
    }
    write_repository(work / REPOSITORY, facts, checkpoint.dimensions.out)
    encoder.rename(work / REPOSITORY / "nodule_encoder" / "1" / "encoder.onnx")
    similarity = work / REPOSITORY / "nodule_similarity" / "1"
    bank.save(similarity / "text_bank.npz")
    (similarity / "encoder_id.json").write_text(json.dumps(identity.tolist()) + "\n")
    (similarity / "calibration.json").write_text(json.dumps(calibration, indent=1) + "\n")
    (work / "parity.json").write_text(json.dumps(parity.as_dict(), indent=1) + "\n")
    seal(work, _manifest(checkpoint, calibration, features, parity, facts))


def _text_and_proof(
    checkpoint: Checkpoint, features: Features, encoder: Path, tell: Callable[[str], None]
) -> tuple[TextBank, Parity]:
    """Everything that needs the model in torch, fold by fold, so that only one fold is in memory twice."""
    model = TorchModel(checkpoint.dimensions)
    require_short_prompts(features, model)
    views, texts, images = parity_views(), [], []
    for number, fold in enumerate(checkpoint.folds):
        tell(f"fold {number}: text bank, and parity with torch")
        model.load(fold)
        texts.append(value_embeddings(features, model))
        images.append(model.encode_views(views))
    embedding, attention, logits = (np.stack(parts, axis=1) for parts in zip(*images, strict=True))
    tell("parity with ONNX Runtime")
    parity = compare(Encoder(encoder), views, (embedding, attention, logits))
    parity.require()
    scale = np.array([scale_of(fold) for fold in checkpoint.folds], np.float32)
    return TextBank(np.stack(texts), scale, np.array(features.groups, np.int64)), parity


def write_repository(repository: Path, facts: dict[str, Any], embedding: int) -> None:
    """Write the model repository of a release, all but its weights and its stamps.

    Args:
        repository: the folder to make.
        facts: what clients are told: folds, calibrated, labels, notice, preprocessing.
        embedding: width of the nodule's embedding.
    """
    source = resources.files("noduleserve.model_repository")
    names = {
        "max_batch": MAX_BATCH,
        "folds": facts["folds"],
        "embedding": embedding,
        "semantic": len(facts["labels"]),
        # JSON inside a string of the configuration's text format: escape backslashes and quotes
        "facts": json.dumps(facts).replace("\\", "\\\\").replace('"', '\\"'),
    }
    with resources.as_file(source) as templates:
        for model in ("nodule_preprocess", "nodule_encoder", "nodule_similarity", "nodule_score"):
            version = repository / model / "1"
            version.mkdir(parents=True)
            for code in sorted((templates / model / "1").glob("*.py")):
                shutil.copyfile(code, version / code.name)
            suffix = f".{TARGET}" if model == "nodule_encoder" else ""
            template = Template((templates / model / f"config.pbtxt{suffix}.template").read_text())
            (repository / model / "config.pbtxt").write_text(template.substitute(names))
    for model in ("nodule_similarity", "nodule_score"):
        (repository / model / "semantic_labels.txt").write_text("\n".join(facts["labels"]) + "\n")
    with resources.as_file(resources.files("noduleserve.preprocessing")) as preprocessing:
        vendored = repository / "nodule_preprocess" / "1" / "preprocessing"
        vendored.mkdir()
        for code in sorted(preprocessing.glob("*.py")):
            shutil.copyfile(code, vendored / code.name)


def _manifest(
    checkpoint: Checkpoint,
    calibration: list[Numbers] | None,
    features: Features,
    parity: Parity,
    facts: dict[str, Any],
) -> dict[str, Any]:
    tools = {name: metadata.version(name) for name in _TOOLS}
    dimensions = checkpoint.dimensions
    return facts | {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "checkpoint": {
            "layout": "published",
            "files": checkpoint.sha256,
            "lora_state": checkpoint.lora_state,
            "lora_state_decided_by": checkpoint.decided_by,
            "reproduces_published": checkpoint.reproduces_published,
        },
        "model": {
            "patch": dimensions.patch,
            "image_tower": {"width": dimensions.image.width, "layers": dimensions.image.layers},
            "text_tower": {"width": dimensions.text.width, "layers": dimensions.text.layers},
            "embedding": dimensions.out,
        },
        "target": TARGET,
        "precision": PRECISION,
        "prompts": {f: {v: list(p) for v, p in values.items()} for f, values in features.prompts.items()},
        "calibration": calibration,
        "parity": parity.as_dict(),
        "tools": tools | {"noduleserve": noduleserve.__version__, "python": platform.python_version()},
        "licences": _LICENCES,
    }
