"""Who is trained on and who is not: by patient, seeded, the same wherever it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from noduleserve.errors import TrainingError

from .base import Example

# Patients of the series and figures that the project's own runs show: no model of its own may have seen them.
NEVER_TRAINED_ON = ("LIDC-IDRI-0001", "LIDC-IDRI-0002", "LIDC-IDRI-0003", "LIDC-IDRI-0132")
_HELD_OUT = 1 / 6


@dataclass(frozen=True)
class Splits:
    """Places of examples in their source, ascending, every example in one part.

    Attributes:
        held_out: never trained on, and looked at when all is done.
        folds: the rest in k parts; fold number i is trained on all parts but the i-th, which it is validated on.
    """

    held_out: tuple[int, ...]
    folds: tuple[tuple[int, ...], ...]

    @property
    def development(self) -> tuple[int, ...]:
        """All that are not held out."""
        return tuple(sorted(number for fold in self.folds for number in fold))

    def training(self, fold: int) -> tuple[int, ...]:
        """What a fold is trained on."""
        others = (part for number, part in enumerate(self.folds) if number != fold)
        return tuple(sorted(number for part in others for number in part))


def split(
    examples: Sequence[Example],
    folds: int = 5,
    seed: int = 0,
    held_out_share: float = _HELD_OUT,
    never: Iterable[str] = NEVER_TRAINED_ON,
) -> Splits:
    """Split by patient, at random.

    Patients are drawn by a hash of seed and name, so that a patient's part does not depend on who else is there, but
    for where the parts end.

    Args:
        examples: of the source.
        folds: number of parts of what is not held out, 2 or more.
        seed: draws the patients.
        held_out_share: of the patients that `never` does not name, rounded.
        never: patients who are held out whatever is drawn.

    Raises:
        TrainingError: SPLIT_TOO_FEW.
    """
    always = set(never)
    patients = sorted({example.patient for example in examples} - always, key=lambda name: _draw(seed, name))
    count = round(len(patients) * held_out_share)
    drawn, rest = patients[:count], patients[count:]
    if folds < 2 or len(rest) < folds:
        raise TrainingError(
            "SPLIT_TOO_FEW", f"{len(rest)} patients cannot be split into {folds} folds.", "Give fewer folds, from 2."
        )
    part = dict.fromkeys([*always, *drawn], -1) | {name: place % folds for place, name in enumerate(rest)}
    parts: dict[int, list[int]] = {}
    for number, example in enumerate(examples):
        parts.setdefault(part[example.patient], []).append(number)
    return Splits(tuple(parts.get(-1, ())), tuple(tuple(parts[fold]) for fold in range(folds)))


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()
