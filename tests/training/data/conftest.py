"""The built-in features, and the real crops where they are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from noduleserve.export.text.features import Features, read_features


@pytest.fixture(scope="session")
def features() -> Features:
    return read_features()


@pytest.fixture(scope="session")
def real_crops(shared: Path) -> Path:
    folder = shared / "lidc" / "crops2d"
    if not folder.is_dir():
        pytest.skip(f"no crops in {folder}")
    return folder
