"""What every source of training data offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Example:
    """A nodule to learn from, or to be judged on.

    Attributes:
        name: unique within the source.
        patient: folds and the held-out part are split by it.
        label: 1 malignant, 0 benign, None not known or indeterminate.
        ratings: mean LIDC rating by name ("malignancy", "texture", "margin", ...); empty where there are none.
        values: the value of each semantic feature that is known, by feature ("consistency" -> "solid").
        diameter: millimetres, or None.
        soft_label: share of the readers who call it malignant, one in doubt counting half; None where there are none.
        readings: what each reader says of the semantic features: feature -> value.
    """

    name: str
    patient: str
    label: int | None
    ratings: Mapping[str, float]
    values: Mapping[str, str]
    diameter: float | None = None
    soft_label: float | None = None
    readings: tuple[Mapping[str, str], ...] = ()

    def shares(self, feature: str) -> dict[str, float]:
        """Value -> share of the readers who settle the feature at it; without readers, all for the known value."""
        said = [reading[feature] for reading in self.readings if feature in reading]
        if not said and feature in self.values:
            said = [self.values[feature]]
        return {value: said.count(value) / len(said) for value in dict.fromkeys(said)}


class Source(Protocol):
    """Nodules with what is known of them."""

    @property
    def examples(self) -> list[Example]:
        """All of them, in a fixed order."""
        ...

    def views(self, number: int, rng: np.random.Generator | None) -> NDArray[np.float32]:
        """The views of an example.

        Args:
            number: its place in `examples`.
            rng: draws the variation of the picture (flips, rotation, noise, gamma, centre jitter); None: as it is.

        Returns:
            float32 [V, 50, 50], V from 1 to 9, windowed to 0..1, 1 mm a pixel, as preprocessing makes them.
        """
        ...
