"""Every kind of plot is really drawn, as a PNG and an SVG, and always with the same bytes."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="draws the pictures")

from noduleserve.benchmarks.record.plots import bar_names, draw
from noduleserve.benchmarks.record.record import Line, Plot

LINES = Plot(
    "latency",
    "Latency",
    "nodules/s",
    "ms",
    [
        Line("ours", [1, 2, 4], [10, 11, 50], [9, 10, 40], [11, 12, 60]),
        Line("other way", [1, 2, 4], [20, math.nan, 200]),
    ],
    x_log=True,
    y_log=True,
)
BARS = Plot(
    "bars", "Bars", "", "ms", [Line("fp32", ["a", "b"], [3, 4], [2, 3], [4, 5]), Line("int8", ["b"], [1])], kind="bars"
)
STACKED = Plot(
    "stack", "Stack", "", "s", [Line("read", ["a", "b"], [3, 4]), Line("infer", ["a", "b"], [6, 1])], "stacked"
)
LONG = replace(BARS, name="long", lines=[Line("x", [f"a way with a long name {n}" for n in range(30)], range(30))])


@pytest.mark.parametrize("plot", [LINES, BARS, STACKED, LONG], ids=lambda plot: plot.name)
def test_a_plot_is_drawn(plot: Plot, tmp_path: Path) -> None:
    png, svg = draw(plot, tmp_path)
    with Image.open(png) as image:
        image.load()
        assert image.width == 1200 and image.height >= 675
        assert (image.height > 1000) == (plot is LONG)  # a row for each name
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00))[: len(plot.lines)]:
        assert (pixels == colour).all(axis=1).sum() > 200
    words = " ".join(ElementTree.parse(svg).getroot().itertext())
    assert all(word in words for word in (plot.title, plot.y_label, *bar_names(plot)))
    assert len(plot.lines) == 1 or all(line.name in words for line in plot.lines)


def test_the_same_plot_gives_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in draw(LINES, tmp_path)]
    assert first == [path.read_bytes() for path in draw(LINES, tmp_path)]
    assert b"<dc:date>" not in first[1]


@pytest.mark.parametrize(
    "plot",
    [
        replace(LINES, lines=[]),
        replace(BARS, lines=[]),
        replace(LINES, lines=[Line("a", [1, 2], [math.nan, math.nan])]),
        replace(LINES, lines=[Line("a", [0, 1], [0.0, 0.0])]),
        replace(STACKED, lines=[Line("a", ["x"], [math.nan]), Line("b", ["x", "y"], [1, 0])]),
        replace(BARS, lines=[Line("a", [1, 2.5], [1, 2])]),
        replace(LINES, lines=[Line("$5 and %", [1], [1])], title="50 % of $x^2", x_log=False, y_log=False),
    ],
)
def test_what_is_hardly_there_is_drawn_too(plot: Plot, tmp_path: Path) -> None:
    assert all(path.stat().st_size > 1000 for path in draw(plot, tmp_path))


def test_groups_come_in_the_order_of_the_lines() -> None:
    assert bar_names(BARS) == ["a", "b"]
    assert bar_names(replace(BARS, lines=[Line("a", [1, 2.5], [1, 2])])) == ["1", "2.5"]
    assert bar_names(LINES) == []
