"""Nodules drawn by a formula: bright squares are malignant, stripes spiculated; towers small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.export.text.features import Features
from noduleserve.training.batches import Material
from noduleserve.training.data.base import Example
from noduleserve.training.model.towers import Towers, configured_towers
from noduleserve.training.recipe import Recipe

OUT = 64
FEATURES = Features(
    {
        "consistency": {"solid": ("a solid nodule",), "part-solid": ("a part-solid nodule", "a nodule in part solid")},
        "margins": {"smooth": ("smooth margins",), "spiculated": ("spiculated margins",)},
    }
)
CONFIG = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 1, "width": 64, "patch_size": 56},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
SMALL = {"out": OUT, "batch": 16, "learning_rate": 1e-3}


class Squares:
    """A source of `count` nodules, two to a patient, with one view or two; every fifth has no label."""

    def __init__(self, count: int = 48) -> None:
        rng = np.random.default_rng(0)
        self.examples: list[Example] = []
        self._views: list[NDArray[np.float32]] = []
        for number in range(count):
            malignant, spiculated = number % 2, number // 2 % 2
            values = {
                "consistency": ("part-solid", "solid")[malignant],
                "margins": ("smooth", "spiculated")[spiculated],
            }
            label = None if number % 5 == 4 else malignant
            self.examples.append(Example(f"n{number}", f"p{number // 2}", label, {}, values, 5.0 + malignant))
            views = 0.2 * rng.random((1 + number % 2, 50, 50), np.float32)
            views[:, 15:35, 15:35] += 0.6 * malignant
            views[:, ::4] += 0.2 * spiculated
            self._views.append(views)

    def views(self, number: int, rng: np.random.Generator | None) -> NDArray[np.float32]:
        views = self._views[number]
        return views if rng is None else views + 0.02 * rng.standard_normal(views.shape, np.float32)


def report(example: Example, rng: np.random.Generator | None) -> str:
    parts = [f"{value} {feature}" for feature, value in example.values.items()]
    if rng is not None:
        rng.shuffle(parts)
    return f"a nodule with {' and '.join(parts)}"


def material(count: int = 48, *, soft: bool = False) -> Material:
    return Material(Squares(count), report, FEATURES, soft)


def towers(folder: Path, seed: int = 0) -> Towers:
    file = folder / "towers.json"
    file.write_text(json.dumps(CONFIG))
    return configured_towers(file, OUT, seed)


def recipe(**changes: object) -> Recipe:
    return Recipe(**{**SMALL, **changes})  # type: ignore[arg-type]
