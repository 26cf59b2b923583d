"""Damage to a file, drawn at random: flipped bits, cuts, absurd numbers, elements that change places.

Every function takes a generator and the bytes of a file, and gives other bytes. The same seed does the same damage.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

HEADER = 2048  # bytes at the front of which most are the header's
EXTREMES = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x00\x00\x00\x00", b"\xfe\xff\xff\xff")
SHORTS = (0, 1, 2, 7, 8, 15, 17, 31, 32, 64, 255, 4096, 8192, 32767, 65535)
TEXTS = (
    *("", "0", "-1", "1", "1e-30", "1e308", "-1e308", "1e999", "nan", "inf", "-inf", "1,5", "0x10", "1_0", "--", "\\"),
    *(
        "\\\\\\\\",
        "1\\2",
        "1\\0\\0\\0\\1\\0",
        "0\\0\\0\\0\\0\\0",
        "0.7\\0.7\\0\\-0.7\\0.7\\0",
        "1\\0\\0\\1\\0\\0",
        "9" * 40,
    ),
    *(
        "NaN\\NaN\\NaN",
        "1e20\\1e20\\1e20",
        "0\\0\\0",
        "1.2.840.10008.5.1.4.1.1.2.1",
        "1.2.840.10008.1.2.4.100",
        "é" * 9,
    ),
    *("LOCALIZER", "HU", "\x00", "\x00" * 64, " " * 500, "A" * 70000),
)
# What a volume is made of; other elements are hit by the blind kinds of damage.
TARGETS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "ImageType", "ImagePositionPatient"),
    *("ImageOrientationPatient", "FrameOfReferenceUID", "SamplesPerPixel", "PhotometricInterpretation", "Rows"),
    *("Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleIntercept"),
    *("RescaleSlope", "NumberOfFrames", "PixelPaddingValue", "SharedFunctionalGroupsSequence"),
    "PerFrameFunctionalGroupsSequence",
)


def flip_header_bits(rng: random.Random, data: bytes) -> bytes:
    """One to sixteen bits of the header."""
    return _flip(rng, data, min(HEADER, len(data)))


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    """One to sixteen bits anywhere."""
    return _flip(rng, data, len(data))


def _flip(rng: random.Random, data: bytes, end: int) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 16)):
        damaged[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def truncate(rng: random.Random, data: bytes) -> bytes:
    """The file ends early."""
    return data[: rng.randrange(len(data))]


def extreme_word(rng: random.Random, data: bytes) -> bytes:
    """Four bytes become a number at the end of its range: lengths and counts do not survive that."""
    at = rng.randrange(128, min(HEADER, len(data) - 4)) if len(data) > 200 else 0
    return data[:at] + rng.choice(EXTREMES) + data[at + 4 :]


def cut_out(rng: random.Random, data: bytes) -> bytes:
    """Some bytes are missing."""
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, 64) :]


def repeat(rng: random.Random, data: bytes) -> bytes:
    """Some bytes stand there twice."""
    at = rng.randrange(len(data))
    end = at + rng.randint(1, 256)
    return data[:end] + data[at:end] + data[end:]


def blank(rng: random.Random, data: bytes) -> bytes:
    """A stretch of the file is zero, as after a failed copy."""
    at = rng.randrange(len(data))
    length = min(rng.randint(1, 512), len(data) - at)
    return data[:at] + bytes(length) + data[at + length :]


def swap_elements(rng: random.Random, data: bytes) -> bytes:
    """Two elements change their values, whatever their types."""

    def edit(dataset: Dataset) -> None:
        tags = [tag for tag in list(dataset.keys()) if tag.group > 2]
        if len(tags) > 1:
            one, other = rng.sample(tags, 2)
            a, b = _value(dataset, one), _value(dataset, other)
            _put(dataset, one, b)
            _put(dataset, other, a)

    return _edited(data, edit)


def absurd_value(rng: random.Random, data: bytes) -> bytes:
    """An element that the volume is made of holds something it should not."""

    def edit(dataset: Dataset) -> None:
        keyword = rng.choice(TARGETS)
        if keyword not in dataset:
            return
        if rng.random() < 0.15:
            del dataset[keyword]
            return
        short = rng.choice(SHORTS).to_bytes(2, "little")
        text = rng.choice(TEXTS).encode("latin-1")
        _put(dataset, dataset.data_element(keyword).tag, short if rng.random() < 0.5 else text + b" " * (len(text) % 2))

    return _edited(data, edit)


def _value(dataset: Dataset, tag: BaseTag) -> bytes:
    raw = dataset.get_item(tag)
    return raw.value or b"" if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes) else b""


def _put(dataset: Dataset, tag: BaseTag, value: bytes) -> None:
    raw = dataset.get_item(tag)
    if isinstance(raw, RawDataElement):
        dataset[tag] = raw._replace(value=value, length=len(value))


def _edited(data: bytes, edit: Callable[[Dataset], None]) -> bytes:
    """The file with its elements edited as raw bytes; where pydicom cannot write that, one bit of it flipped."""
    try:
        dataset = dcmread(io.BytesIO(data))
        edit(dataset)
        out = io.BytesIO()
        dataset.save_as(out)
        return out.getvalue()
    except Exception:
        return data[:-1] + bytes([data[-1] ^ 1])


KINDS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(flip_header_bits, flip_bits, truncate, extreme_word, cut_out, repeat, blank, swap_elements),
    *(absurd_value, absurd_value, absurd_value),
)


def damaged(seed: int, data: bytes) -> tuple[str, bytes]:
    """The kind of damage that a seed stands for, and the file after it."""
    rng = random.Random(seed)
    kind = rng.choice(KINDS)
    return kind.__name__, kind(rng, data)
