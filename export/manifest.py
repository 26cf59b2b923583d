"""What a release says of itself: the parts of MANIFEST.json."""

from __future__ import annotations

import datetime
import platform
from importlib import metadata
from typing import Any

import noduleserve
from noduleserve.preprocessing import PREPROCESSING_VERSION

from .checkpoint import Checkpoint
from .checkpoint.calibration import Numbers
from .proof.parity import Parity
from .targets import Encoding
from .text.features import Features

_TOOLS = ("numpy", "onnx", "onnxruntime", "torch", "open_clip_torch", "peft", "safetensors", "openvino")
_LICENCES = [
    "noduleserve, its Triton models and the vendored preprocessing: Apache-2.0.",
    "The weights: as their owner licenses them. CLIP ViT base weights by OpenAI are under the MIT licence.",
]


def facts_of(folds: int, calibrated: bool, features: Features, notice: str) -> dict[str, Any]:
    """What clients are told, in the configuration of nodule_score and in the manifest."""
    return {
        "folds": folds,
        "calibrated": calibrated,
        "labels": features.labels,
        "notice": notice,
        "preprocessing": PREPROCESSING_VERSION,
    }


def manifest_of(
    checkpoint: Checkpoint,
    calibration: list[Numbers] | None,
    features: Features,
    encoding: Encoding,
    encoder: list[int],
    parity: Parity,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """All of the manifest but what `seal` computes."""
    dimensions = checkpoint.dimensions
    return facts | {
        "created": now(),
        "checkpoint": {
            "layout": checkpoint.layout,
            "tuning": checkpoint.tuning,
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
        "target": encoding.target,
        "precision": encoding.precision,
        "encoder_id": encoder,
        "parity_failed": bool(parity.missed),
        "prompts": prompts_of(features),
        "calibration": calibration,
        "parity": parity.as_dict(),
        "tools": tools(),
        "licences": _LICENCES,
    }


def prompts_of(features: Features) -> dict[str, dict[str, list[str]]]:
    """Feature -> value -> prompts, for JSON."""
    return {f: {v: list(p) for v, p in values.items()} for f, values in features.prompts.items()}


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def tools() -> dict[str, str]:
    """Versions of what takes part in an export."""
    installed = {}
    for name in _TOOLS:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed | {"noduleserve": noduleserve.__version__, "python": platform.python_version()}
