"""Series to write SRs of, and outcomes as a run gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import write_series
from pydicom.dataset import FileDataset

from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.results.outcome import Outcome, ReleaseInfo, Score
from noduleserve.results.sr.codes import FEATURES
from noduleserve.results.sr.source import SourceSeries, source_series
from noduleserve.worklist.table import Nodule

LABELS = ("margins.smooth", "margins.spiculated", "necrosis.present", "necrosis.absent")
ALL_LABELS = tuple(f"{feature}.{value}" for feature, concepts in FEATURES.items() for value in concepts.values)
RELEASE = "ns-0123456789abcdef0123"
Scored = Callable[..., Outcome]
Made = Callable[..., SourceSeries]


@pytest.fixture
def info() -> ReleaseInfo:
    """A release of three folds without a calibration, with two features and a notice."""
    return ReleaseInfo(RELEASE, 3, False, LABELS, "untrained demo weights")


@pytest.fixture
def all_labels() -> tuple[str, ...]:
    """The labels of a release with the built-in features."""
    return ALL_LABELS


@pytest.fixture
def scored() -> Scored:
    """Makes the outcome of a nodule: its number, centre, id and labels -> scored, numbers of its own."""

    def make(
        number: int,
        center: Sequence[float],
        nodule_id: str | None = None,
        labels: Sequence[str] = LABELS,
        calibrated: bool = False,
        warnings: tuple = (),
    ) -> Outcome:
        rng = np.random.default_rng(number)
        raw, other = rng.random(3).astype(np.float32), rng.random(3).astype(np.float32)
        calibration = other if calibrated else np.full(3, np.nan, np.float32)
        score = Score(
            malignancy=float(np.float32((other if calibrated else raw).mean())),
            raw=raw,
            calibrated=calibration,
            semantic=rng.random(len(labels)).astype(np.float32),
            embedding=np.zeros((3, 256), np.float32),
            view_attention=np.full((3, 9), 1 / 9, np.float32),
            release=RELEASE,
        )
        x, y, z = (float(c) for c in center)
        name = f"N{number}" if nodule_id is None else nodule_id
        return Outcome(Nodule(number, {}, "p", name, Path("ct"), (x, y, z)), score, warnings=warnings)

    return make


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Makes a small series of 20 x 20 x 20 mm from (0, 0, 0) on; `edit(z, image)` may change each slice."""

    def make(edit: Callable[[int, FileDataset], None] = lambda z, image: None) -> SourceSeries:
        def describe(z: int, image: FileDataset) -> None:
            image.StudyInstanceUID = "1.2.3"
            edit(z, image)

        folder = write_series(tmp_path / "ct", np.zeros((21, 21, 21), np.int16), edit=describe)
        return source_series(DicomSeries.open(folder), folder / "000.dcm")

    return make
