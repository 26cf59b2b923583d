"""A small chest-like series with names in its files that must not be shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_writing import write_series

SECRETS = ("Doe", "Jane", "P-4711", "19600101", "20250102", "ACC-77", "St. Elsewhere")
CENTER = (40.0, 33.0, -130.0)


def _identify(number: int, image: Any) -> None:
    image.PatientBirthDate, image.StudyDate, image.SeriesDate = "19600101", "20250102", "20250102"
    image.AccessionNumber, image.InstitutionName = "ACC-77", "St. Elsewhere"


@pytest.fixture(scope="session")
def secrets() -> tuple[str, ...]:
    """Words of the headers that stand for a patient."""
    return SECRETS


@pytest.fixture(scope="session")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 x 120 x 50 voxels of 1 x 1 x 2.4 mm in lung, a ball of 12 mm at CENTER, patient data in every header."""
    origin, spacing = np.array([-20.0, -30.0, -190.0]), np.array([1.0, 1.0, 2.4])
    z, y, x = np.meshgrid(
        *(origin[a] + spacing[a] * np.arange(n) for a, n in ((2, 50), (1, 120), (0, 120))), indexing="ij"
    )
    away = np.sqrt((x - CENTER[0]) ** 2 + (y - CENTER[1]) ** 2 + (z - CENTER[2]) ** 2)
    stored = np.where(away < 6, 50, -850).astype(np.int16)
    folder = tmp_path_factory.mktemp("look") / "Doe_Jane"
    return write_series(folder, stored, position=origin, spacing=spacing, series_uid="1.2.840.77", edit=_identify)
