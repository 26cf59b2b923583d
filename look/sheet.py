"""A nodule's sight as one picture, for a ticket, a slide or a terminal that shows pictures."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .picture import (
    CROSS_COLOR,
    CUBE_COLOR,
    FIELD_COLOR,
    HISTOGRAM_NOTE,
    LEGEND,
    VIEWS_NOTE,
    VOID_COLOR,
    named_views,
    plane_image,
    scale_bar_mm,
    view_letters,
)
from .planes import Plane, Rectangle
from .sight import BIN_HU, Sight

WIDTH, MARGIN, GAP = 1600, 24, 14
VIEW_TIMES = 5  # pixels of the picture for a pixel of a view, along each side
_PAPER, _INK, _MUTED, _LETTER, _WARN, _FILL, _SHADE = (
    *("#14181d", "#dde4ec", "#9ba8b6", "#ffe9a8", "#f3c969", "#4d8cc2", "#222932"),
)
_TEXT, _SMALL = 19, 16  # font sizes
_NAME_COLUMN = 210
_PLAIN = str.maketrans("×", "x")  # the font has no multiplication sign


def sheet_of(sight: Sight, *, title: str, window: tuple[float, float], crosshair: bool = True) -> Image.Image:
    """The picture, RGB, WIDTH pixels wide and as high as it needs.

    Args:
        sight: what to show.
        title: its first line.
        window: HU range of the planes of the whole volume.
        crosshair: whether to draw crosshairs at the nodule's centre.
    """
    sheet = _Sheet()
    sheet.text(title, size=28)
    for warning in sight.warnings:
        sheet.text(f"{warning.code}  {warning.what} {warning.mend}", color=_WARN)
    if sight.unread:
        sheet.text(sight.unread, color=_WARN)
    if sight.planes:
        sheet.y = _draw_planes(sheet, sight.planes, window, crosshair)
        sheet.text(f"{LEGEND} Window {window[0]:g} to {window[1]:g} HU.", size=_SMALL, color=_MUTED)
    sheet.y += GAP
    left, top = MARGIN + 3 * (50 * VIEW_TIMES + GAP) + 2 * GAP, sheet.y
    below_views = _draw_views(sheet, sight.views, crosshair)
    sheet.y = top
    _write_facts(sheet, sight, left)
    sheet.y = max(sheet.y, below_views)
    sheet.text(VIEWS_NOTE, size=_SMALL, color=_MUTED)
    return sheet.finished()


class _Sheet:
    """A page that is filled from the top."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH, 4000), _PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.y = MARGIN

    def text(self, text: str, *, left: int = MARGIN, size: int = _TEXT, color: str = _INK) -> None:
        """Write a paragraph from `left` to the right margin."""
        for line in wrapped(text, WIDTH - MARGIN - left, size):
            self.draw.text((left, self.y), line, color, font(size))
            self.y += round(size * 1.35)

    def letter(self, text: str, x: float, y: float, size: int = _TEXT) -> None:
        """Write a letter with its middle at a point."""
        place = (x, y)
        self.draw.text(place, text, _LETTER, font(size), anchor="mm", stroke_width=2, stroke_fill="#000000")

    def finished(self) -> Image.Image:
        """The picture, cut off below what was filled."""
        return self.image.crop((0, 0, WIDTH, self.y + MARGIN))


def _draw_planes(sheet: _Sheet, planes: tuple[Plane, ...], window: tuple[float, float], crosshair: bool) -> int:
    """Draw the planes side by side in one scale; returns the y below them."""
    sheet.y += GAP
    room = WIDTH - 2 * MARGIN - GAP * (len(planes) - 1)
    scale = room / sum(plane.canvas.width for plane in planes)
    x, top = float(MARGIN), sheet.y
    for plane in planes:
        _draw_plane(sheet, plane, window, (x, top, scale), crosshair)
        x += plane.canvas.width * scale + GAP
    return round(top + max(plane.canvas.height for plane in planes) * scale) + GAP


def _draw_plane(
    sheet: _Sheet, plane: Plane, window: tuple[float, float], at: tuple[float, float, float], crosshair: bool
) -> None:
    x0, y0, scale = at
    canvas, draw = plane.canvas, sheet.draw

    def pixels(r: Rectangle) -> tuple[int, int, int, int]:
        left, top = x0 + (r.left - canvas.left) * scale, y0 + (r.top - canvas.top) * scale
        return round(left), round(top), round(left + r.width * scale), round(top + r.height * scale)

    left, top, right, bottom = pixels(canvas)
    draw.rectangle((left, top, right - 1, bottom - 1), VOID_COLOR)
    a, b, c, d = pixels(plane.picture)
    picture = plane_image(plane, window)
    resized = picture.resize((max(c - a, 1), max(d - b, 1)), Image.Resampling.BILINEAR)
    sheet.image.paste(resized.convert("L"), (a, b), resized.getchannel("A") if resized.mode == "LA" else None)
    _dashed(draw, pixels(plane.cube), CUBE_COLOR)
    draw.rectangle(_inner(pixels(plane.field)), outline=FIELD_COLOR, width=2)
    if crosshair:
        x = x0 + (plane.center[0] - canvas.left) * scale
        y = y0 + (plane.center[1] - canvas.top) * scale
        _cross(draw, x, y, 6 * scale, 20 * scale)
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    for text, x, y in (
        *((plane.left, left + 12, middle_y), (plane.right, right - 12, middle_y)),
        *((plane.top, middle_x, top + 14), (plane.bottom, middle_x, bottom - 14)),
    ):
        sheet.letter(text, x, y)
    _scale_bar(sheet, left + 14, bottom - 14, scale_bar_mm(canvas.width), scale)
    sheet.letter(plane.name, left + 14 + font(_SMALL).getlength(plane.name) / 2, top + 14, _SMALL)


def _draw_views(sheet: _Sheet, views: NDArray[np.float32], crosshair: bool) -> int:
    """Draw the views three by three, without smoothing; returns the y below them."""
    side, top = 50 * VIEW_TIMES, sheet.y
    pitch = side + GAP + 22
    for number, (facts, grey) in enumerate(named_views(views)):
        x, y = MARGIN + number % 3 * (side + GAP), top + number // 3 * pitch
        picture = Image.fromarray(np.ascontiguousarray(grey)).resize((side, side), Image.Resampling.NEAREST)
        sheet.image.paste(picture, (x, y))
        if crosshair:
            row = 24.5 if facts.flip else 25.5
            _cross(sheet.draw, x + 25.5 * VIEW_TIMES, y + row * VIEW_TIMES, 3 * VIEW_TIMES, 10 * VIEW_TIMES)
        letters = view_letters(facts)
        half = {edge: font(_SMALL).getlength(text) / 2 + 5 for edge, text in letters.items()}
        sheet.letter(letters["left"], x + half["left"], y + side / 2, _SMALL)
        sheet.letter(letters["right"], x + side - half["right"], y + side / 2, _SMALL)
        sheet.letter(letters["top"], x + side / 2, y + 12, _SMALL)
        sheet.letter(letters["bottom"], x + side / 2, y + side - 12, _SMALL)
        if number == 0:
            _scale_bar(sheet, x + 12, y + side - 12, 10, VIEW_TIMES)
        sheet.draw.text((x, y + side + 3), facts.name, _INK, font(_SMALL))
    return top + 3 * pitch


def _write_facts(sheet: _Sheet, sight: Sight, left: int) -> None:
    for heading, facts in sight.facts.items():
        sheet.text(heading, left=left, size=21)
        for name, value in facts:
            sheet.draw.text((left, sheet.y), name, _MUTED, font(_SMALL))
            sheet.text(value, left=left + _NAME_COLUMN, size=_SMALL)
        sheet.y += GAP
    _draw_histogram(sheet, sight, left)


def _draw_histogram(sheet: _Sheet, sight: Sight, left: int) -> None:
    step, height = (WIDTH - MARGIN - left) / len(sight.histogram), 90
    base = sheet.y + height

    def x_of(hu: float) -> float:
        return left + (hu - sight.histogram_from) / BIN_HU * step

    sheet.draw.rectangle((x_of(-1000), sheet.y, x_of(500), base), _SHADE)
    for number, count in enumerate((sight.histogram / max(sight.histogram.max(), 1)).tolist()):
        if count:
            x = left + number * step
            sheet.draw.rectangle((x, base - height * count, x + step - 2, base), _FILL)
    for hu in (-1000, -500, 0, 500):
        sheet.draw.text((x_of(hu), base + 6), str(hu), _MUTED, font(_SMALL), anchor="mt")
    sheet.y = base + 28
    sheet.text(f"{HISTOGRAM_NOTE}; shaded: the model's window", left=left, size=_SMALL, color=_MUTED)


def _scale_bar(sheet: _Sheet, x: float, y: float, mm: float, scale: float) -> None:
    end = x + mm * scale
    for line in ((x, y, end, y), (x, y - 4, x, y + 4), (end, y - 4, end, y + 4)):
        sheet.draw.line(line, "#ffffff", 2)
    sheet.letter(f"{mm:g} mm", max((x + end) / 2, x + 22), y - 14, 14)


def _cross(draw: ImageDraw.ImageDraw, x: float, y: float, inner: float, outer: float) -> None:
    for sign in (-1, 1):
        draw.line((x + sign * inner, y, x + sign * outer, y), CROSS_COLOR, 2)
        draw.line((x, y + sign * inner, x, y + sign * outer), CROSS_COLOR, 2)


def _inner(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The pixels of a rectangle whose right and lower edges are the first that are no more of it."""
    return box[0], box[1], box[2] - 1, box[3] - 1


def _dashed(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], color: str) -> None:
    left, top, right, bottom = _inner(box)
    for start in range(left, right, 14):
        for y in (top, bottom - 1):
            draw.line((start, y, min(start + 8, right), y), color, 2)
    for start in range(top, bottom, 14):
        for x in (left, right - 1):
            draw.line((x, start, x, min(start + 8, bottom)), color, 2)


def wrapped(text: str, width: float, size: int) -> list[str]:
    """A text as lines that fit a width in pixels; a word that is too long is cut."""
    lines, line = [], ""
    for word in text.translate(_PLAIN).split(" "):
        while font(size).getlength(word) > width:
            fits = next(n for n in range(len(word) - 1, 0, -1) if font(size).getlength(word[:n]) <= width or n == 1)
            lines += [line] * bool(line) + [word[:fits]]
            line, word = "", word[fits:]
        longer = f"{line} {word}" if line else word
        if font(size).getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow carries, so that a picture looks alike everywhere."""
    return ImageFont.load_default(size)
