"""Scores by scanner and by slice thickness: where one of them stands apart, its images are worth a look."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .distribution import quantiles

FEW = 20  # nodules below which a group says little
SHOWN = 25  # groups of each kind in the table
UNKNOWN = "not known"
# Upper ends of slice thickness, mm; screening protocols ask for 2.5 mm or less, and prefer 1 mm.
_THICKNESSES = (1.0, 1.5, 2.5)
_RANGES = ("up to 1 mm", "over 1 to 1.5 mm", "over 1.5 to 2.5 mm", "over 2.5 mm", UNKNOWN)


@dataclass(frozen=True)
class Group:
    """Nodules of one scanner, or of one range of slice thickness.

    Attributes:
        name: manufacturer and model, or the range.
        count, parked: nodules, and those of them without a score.
        share: of all nodules.
        quartiles: of malignancy: 0.25, 0.5, 0.75; NaN where none has a score.
    """

    name: str
    count: int
    parked: int
    share: float
    quartiles: tuple[float, float, float]

    @property
    def parked_share(self) -> float:
        """Share of the group that has no score."""
        return self.parked / self.count

    @property
    def few(self) -> bool:
        """Whether chance is most of what the group's numbers say."""
        return self.count - self.parked < FEW


class Groups:
    """Scores of a night, sorted into groups as they come: a number a nodule is all that is kept."""

    def __init__(self) -> None:
        self.known = 0  # nodules of which anything about the scanner is known
        self._total = 0
        self._scanners: dict[str, tuple[array[float], list[int]]] = {}
        self._thicknesses: dict[str, tuple[array[float], list[int]]] = {}

    def add(self, scanner: Mapping[str, str], value: float, *, parked: bool) -> None:
        """Count one nodule.

        Args:
            scanner: Manufacturer, ManufacturerModelName and SliceThickness, where known.
            value: malignancy; NaN where there is none.
            parked: whether it has no score.
        """
        self._total += 1
        self.known += bool(scanner)
        name = scanner_name(scanner)
        for groups, key in ((self._scanners, name), (self._thicknesses, thickness_range(scanner))):
            values, counts = groups.setdefault(key, (array("d"), [0, 0]))
            counts[parked] += 1
            if math.isfinite(value):
                values.append(value)

    @property
    def scanners(self) -> list[Group]:
        """By scanner, the largest group first, what is not known last."""
        groups = [self._group(name, *held) for name, held in self._scanners.items()]
        return sorted(groups, key=lambda group: (group.name == UNKNOWN, -group.count, group.name))

    @property
    def thicknesses(self) -> list[Group]:
        """By slice thickness, from thin to thick, what is not known last."""
        return [self._group(name, *self._thicknesses[name]) for name in _RANGES if name in self._thicknesses]

    def _group(self, name: str, values: array[float], counts: list[int]) -> Group:
        count = sum(counts)
        low, middle, high = quantiles(np.frombuffer(values.tobytes()), (0.25, 0.5, 0.75))
        return Group(name, count, counts[True], count / self._total, (low, middle, high))


def scanner_name(scanner: Mapping[str, str]) -> str:
    """Manufacturer and model in one."""
    parts = [scanner.get(name, "").strip() for name in ("Manufacturer", "ManufacturerModelName")]
    return " ".join(part for part in parts if part) or UNKNOWN


def thickness_range(scanner: Mapping[str, str]) -> str:
    """Which of the ranges SliceThickness lies in."""
    try:
        thickness = float(scanner.get("SliceThickness", ""))
    except ValueError:
        return UNKNOWN
    if not math.isfinite(thickness) or thickness <= 0:
        return UNKNOWN
    return next((name for end, name in zip(_THICKNESSES, _RANGES, strict=False) if thickness <= end), _RANGES[-2])
