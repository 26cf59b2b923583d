"""Decoded frames are kept while a series is open: once decoded is enough, and never what the file has no more."""

from __future__ import annotations

import shutil
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
from dicom_writing import write_series
from pydicom import dcmread
from pydicom.uid import RLELossless

from noduleserve.ct.dicom import decoders
from noduleserve.ct.dicom.codestream import Codestream
from noduleserve.ct.dicom.frames import DecodedFrames, Frame
from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box

DEPTH, SIDE = 6, 16


def write(folder: Path, seed: int = 0) -> np.ndarray[Any, Any]:
    """A compressed series of random numbers; gives back its Hounsfield units."""
    stored = np.random.default_rng(seed).integers(0, 4096, (DEPTH, SIDE, SIDE)).astype(np.uint16)
    write_series(folder, stored)
    for path in folder.iterdir():
        image = dcmread(path)
        image.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        image.save_as(path)
    return stored.astype(np.int16)


def box(start: tuple[int, int, int], stop: tuple[int, int, int]) -> Box:
    return Box(start=np.array(start), stop=np.array(stop))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each frame that is decoded."""
    count: list[int] = []
    decode = decoders.decode

    def counting(*arguments: Any) -> Any:
        count.append(1)
        return decode(*arguments)

    monkeypatch.setattr(decoders, "decode", counting)
    return count


def test_neighbours_share_what_was_decoded(tmp_path: Path, decoded: list[int]) -> None:
    units = write(tmp_path / "ct")
    series = DicomSeries.open(tmp_path / "ct")
    np.testing.assert_array_equal(series.read_box(box((0, 0, 0), (8, 8, 4))), units[:4, :8, :8])
    np.testing.assert_array_equal(series.read_box(box((5, 6, 2), (16, 16, 6))), units[2:, 6:, 5:])
    assert len(decoded) == DEPTH


def test_a_file_that_has_changed_is_decoded_anew(tmp_path: Path, decoded: list[int]) -> None:
    before, after = write(tmp_path / "ct"), write(tmp_path / "other", seed=1)
    series, whole = DicomSeries.open(tmp_path / "ct"), box((0, 0, 0), (SIDE, SIDE, DEPTH))
    np.testing.assert_array_equal(series.read_box(whole), before)
    shutil.copy(tmp_path / "other" / "003.dcm", tmp_path / "ct" / "003.dcm")
    np.testing.assert_array_equal(series.read_box(whole), [*before[:3], after[3], *before[4:]])
    assert len(decoded) == DEPTH + 1
    (tmp_path / "ct" / "003.dcm").unlink()
    with pytest.raises(SeriesError, match="FILE_UNREADABLE"):
        series.read_box(whole)


def frame_of(value: int) -> Frame:
    return Frame(np.full((2, 5), value, np.uint16), Codestream(b"", 2, 5, 16))  # 20 bytes


def test_the_last_used_are_kept_and_nobody_writes_into_them(tmp_path: Path) -> None:
    frames, made = DecodedFrames(most_bytes=40), []

    def take(number: int) -> int:
        def decode() -> Frame:
            made.append(number)
            return frame_of(number)

        with (tmp_path / "file").open("rb") as file:
            words = frames.get(file, tmp_path / "file", number, decode).words
        with pytest.raises(ValueError, match="read-only"):
            words[0, 0] = 1
        return int(words[1, 4])

    (tmp_path / "file").touch()
    assert [take(number) for number in (1, 2, 1, 3, 1, 2, 3)] == [1, 2, 1, 3, 1, 2, 3]
    assert made == [1, 2, 3, 2, 3]  # 3 takes the place of 2, then 2 that of 3, and 3 that of 1


def test_what_is_larger_than_all_there_is_is_not_kept_and_errors_are_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    frames, made = DecodedFrames(most_bytes=10), []
    with (tmp_path / "file").open("rb") as file:
        for number in range(2):
            frames.get(file, tmp_path / "file", 0, lambda number=number: made.append(number) or frame_of(number))
        assert made == [0, 1]

        def damaged() -> Frame:
            raise ValueError("damaged")

        frames = DecodedFrames()
        with pytest.raises(ValueError, match="damaged"):
            frames.get(file, tmp_path / "file", 0, damaged)
        assert frames.get(file, tmp_path / "file", 0, lambda: frame_of(7)).words[0, 0] == 7


def test_threads_that_decode_the_same_at_once_count_it_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    frames, together = DecodedFrames(most_bytes=40), Barrier(2)

    def decode() -> Frame:
        together.wait(20)
        return frame_of(1)

    def take() -> None:
        with (tmp_path / "file").open("rb") as file:
            frames.get(file, tmp_path / "file", 1, decode)

    threads = [Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with (tmp_path / "file").open("rb") as file:
        frames.get(file, tmp_path / "file", 2, lambda: frame_of(2))  # there is still room for a second one
        assert frames.get(file, tmp_path / "file", 1, lambda: frame_of(3)).words[0, 0] == 1
