"""What every kind of source is read into, and what a reader is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from noduleserve.errors import WorklistError

from .ct_series import CtFinder

MOST_NODULES = 1000  # of one source; more are noise, or marks of something else

# A name or type that stands for a nodule; `gtv` and `mass` only where they are words.
NODULE_NAME = re.compile(
    r"nodul|lesion|tumou?r|neoplas|metasta|carcinom|cancer|(?<![a-z])(gtv|mass)(?![a-z]{2})", re.IGNORECASE
)


@dataclass(frozen=True)
class Marking:
    """One nodule as a source marks it.

    Attributes:
        nodule_id: of the source, or a number where it has none.
        center: LPS millimetres (x, y, z).
        label: what the source calls it.
        diameter_mm: of the sphere of the same volume, of the circle of the same area where a single plane is
            outlined; None where the mark has no extent.
        readers: how many readers marked it; None where that is not told.
    """

    nodule_id: str
    center: tuple[float, float, float]
    label: str = ""
    diameter_mm: float | None = None
    readers: int | None = None


@dataclass(frozen=True)
class Marked:
    """What one source says.

    Attributes:
        markings: its nodules.
        pid: PatientID, or "".
        series_uid: SeriesInstanceUID of the CT that the marks were made on, or "".
        frame_of_reference: FrameOfReferenceUID of the coordinates, or "".
        left_out: what was passed over, a sentence each, without patient data.
    """

    markings: Sequence[Marking]
    pid: str = ""
    series_uid: str = ""
    frame_of_reference: str = ""
    left_out: Sequence[str] = ()


@dataclass(frozen=True)
class Choice:
    """Which marks become rows.

    Attributes:
        roi: names of the structures, segments or tracking identifiers to take; None: those that stand for a nodule.
        small: whether nodules below 3 mm, which LIDC readers mark with one point, are taken too.
    """

    roi: re.Pattern[str] | None = None
    small: bool = False

    def takes(self, *names: str) -> bool:
        """Whether a structure or segment of these names and types (the first is its own name) is taken."""
        if self.roi is not None:
            return self.roi.search(names[0]) is not None
        return any(NODULE_NAME.search(name) for name in names)


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    Attributes:
        name: as `--kind` names it.
        read: a file, where to find its CT, and what to take -> its nodules.
        needs_ct: whether `read` cannot do without the CT.
    """

    name: str
    read: Callable[[Path, CtFinder, Choice], Marked]
    needs_ct: bool = field(default=False)


def clean(text: object, most: int = 64) -> str:
    """A text of a source as one cell of a table: no line breaks or control characters, not overlong."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:most]


def unreadable(path: Path, why: str) -> WorklistError:
    """The error of a source that is damaged or not what it claims to be."""
    return WorklistError("WORKLIST_SOURCE_UNREADABLE", f"{path.name}: {why}.", "Export it again from its source.")


def none_taken(path: Path, things: str, count: int) -> WorklistError:
    """The error of a source with marks of which none stands for a nodule."""
    return WorklistError(
        "WORKLIST_SOURCE_NO_NODULE",
        f"None of the {count} {things} of {path.name} is taken: by default those whose name or type says nodule, "
        "lesion, mass, tumour, neoplasm, metastasis, carcinoma, cancer or GTV.",
        "Choose by name with --roi REGEX; --roi . takes every one.",
    )
