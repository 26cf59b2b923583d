"""The CT series that marks are made on."""

from __future__ import annotations

from pathlib import Path

import pytest
from marking import MarkedCt, write_ct


@pytest.fixture
def marked_ct(tmp_path: Path) -> MarkedCt:
    """A series of 10 oblique slices in `tmp_path / "ct"`."""
    return write_ct(tmp_path / "ct")
