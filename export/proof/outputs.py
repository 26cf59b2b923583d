"""What an encoder makes of views, the runners that make it, and the views that a proof without a worklist uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from noduleserve.preprocessing.views import VIEW, VIEW_NAMES

NAMES = ("EMBEDDING", "VIEW_ATTENTION", "LOGITS")


class Outputs(NamedTuple):
    """Of N nodules and F folds: embedding [N,F,out], view attention [N,F,9], logits [N,F,2]."""

    embedding: NDArray[np.float32]
    view_attention: NDArray[np.float32]
    logits: NDArray[np.float32]


Encode = Callable[[NDArray[np.float32]], Outputs]  # views [N,9,50,50] -> outputs


def onnx_encoder(model: Path) -> Encode:
    """An encoder graph on ONNX Runtime on the CPU, all nodules as one batch."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def encode(views: NDArray[np.float32]) -> Outputs:
        return Outputs(*session.run(list(NAMES), {"VIEWS": views}))

    return encode


def in_parts(
    encode: Callable[[NDArray[np.float32]], tuple[NDArray, NDArray, NDArray]], views: NDArray[np.float32], size: int
) -> Outputs:
    """Encode views in batches of `size` nodules; their outputs put together."""
    parts = [encode(views[i : i + size]) for i in range(0, len(views), size)]
    return Outputs(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def alone(encode: Encode) -> Encode:
    """The same encoder, one nodule at a time."""
    return lambda views: in_parts(encode, views, 1)


def probability(logits: NDArray) -> NDArray[np.float64]:
    """Malignancy of logits [..., 2]."""
    odds = logits[..., 1].astype(np.float64) - logits[..., 0]
    return np.exp(-np.logaddexp(0, -odds))


def synthetic_views(count: int = 4, seed: int = 20) -> NDArray[np.float32]:
    """Views like a nodule's, [count, 9, 50, 50]: a bright blob in dark lung, with texture from smooth to noise."""
    random = np.random.default_rng(seed)
    grid = np.arange(VIEW) - (VIEW - 1) / 2
    distance = np.hypot(grid[:, None], grid)
    views = np.empty((count, len(VIEW_NAMES), VIEW, VIEW))
    for nodule, view in np.ndindex(views.shape[:2]):
        radius, edge, level = random.uniform(2, 18), random.uniform(0.5, 4), random.uniform(0.3, 0.9)
        walk = random.standard_normal((VIEW, VIEW)).cumsum(axis=0).cumsum(axis=1)
        texture = 0.05 * walk / walk.std() + random.uniform(0, 0.05) * random.standard_normal((VIEW, VIEW))
        views[nodule, view] = 0.1 + level / (1 + np.exp((distance - radius) / edge)) + texture
    return np.clip(views, 0, 1).astype(np.float32)
