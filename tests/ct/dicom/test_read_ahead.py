"""Of a slice that is only looked at, no more is fetched from the disk than its header."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import write_series

from noduleserve.ct.dicom.header import read_header

BEHIND = 96 * 1024  # behind the first bytes that are read, within what a system reads ahead


def in_memory(path: Path, at: int) -> bool | None:
    """Whether a byte comes without waiting for the disk; None where the file system cannot tell."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.preadv(descriptor, [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError:
        return None
    finally:
        os.close(descriptor)


def test_a_header_alone_is_fetched(tmp_path: Path) -> None:
    if not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("this system does not tell what is in memory")
    path = write_series(tmp_path / "ct", np.zeros((1, 512, 512), np.uint16)) / "000.dcm"
    if in_memory(path, BEHIND) is None:
        pytest.skip("this file system does not tell what is in memory")
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    header = read_header(path)
    assert header is not None and header.pixels_at is not None
    assert in_memory(path, BEHIND) is False
