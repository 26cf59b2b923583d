"""The decoders' benchmark times what gives every voxel back, and series are read with a decoder that is in it."""

from __future__ import annotations

import numpy as np
import pytest

from noduleserve.benchmarks.decoders import ENCODERS, bench_decoders, decoders_plot, decoders_table, phantom_slice


def test_every_decoder_is_timed_or_left_out_with_a_reason() -> None:
    pytest.importorskip("imagecodecs", reason="writes JPEG lossless and HTJ2K")
    figures, absent = bench_decoders(turns=1, size=128)
    assert absent == []
    assert {f.syntax for f in figures} == {syntax.name for syntax in ENCODERS}
    for syntax in ENCODERS:
        of_syntax = [f for f in figures if f.syntax == syntax.name]
        assert sum(f.chosen for f in of_syntax) == 1
        assert min(f.ratio for f in of_syntax) == 1
        assert all(0 < f.size < 1 and f.seconds > 0 for f in of_syntax)
    rows = decoders_table(figures).rows
    assert [row[:3] for row in rows] == [(f.syntax, f.plugin, f.chosen) for f in figures]
    lines = decoders_plot(figures).lines
    assert {line.name for line in lines} == {f.plugin for f in figures}
    assert sum(len(line.x) for line in lines) == len(figures)


def test_a_decoder_that_gives_other_voxels_is_named_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = phantom_slice(64)
    rle = next(syntax for syntax in ENCODERS if "RLE" in syntax.name)
    wrong = {rle: lambda stored: ENCODERS_RLE(stored[::-1].copy())}
    monkeypatch.setattr("noduleserve.benchmarks.decoders.ENCODERS", wrong)
    figures, absent = bench_decoders(turns=1, size=64)
    assert figures == [] and absent and all("other voxels" in line for line in absent)
    assert not np.array_equal(slices, slices[::-1])


ENCODERS_RLE = next(encode for syntax, encode in ENCODERS.items() if "RLE" in syntax.name)
