"""The page and the picture: what they show, pixel for pixel, and what they must not show."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noduleserve.ct.doubt import InputWarning
from noduleserve.ct.open_volume import open_volume
from noduleserve.look.page import page_of
from noduleserve.look.picture import LUNG, SOFT_TISSUE, VOID_COLOR, plane_image, png, scale_bar_mm
from noduleserve.look.planes import Plane, Rectangle
from noduleserve.look.sheet import MARGIN, VIEW_TIMES, WIDTH, font, sheet_of, wrapped
from noduleserve.look.sight import Sight, see
from noduleserve.preprocessing import VIEW_NAMES, required_box, views_of_request
from noduleserve.results.report.view_pictures import view_facts

CENTER = (40.0, 33.0, -130.0)


@pytest.fixture(scope="module")
def sight(chest: Path) -> Sight:
    return see(open_volume(chest), CENTER)


def html(sight: Sight, **options: bool) -> ET.Element:
    text = page_of(sight, title="A nodule", window=LUNG, **options)
    text = re.sub(r"<(meta|input)([^>]*)>", r"<\1\2/>", text.replace("<!doctype html>\n", ""))
    text = text.replace(" checked/>", ' checked="checked"/>')
    return ET.fromstring(text)


def picture_in(element: ET.Element) -> Image.Image:
    image = element.find("image")
    assert image is not None
    kind, _, data = image.attrib["href"].partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_views_are_those_of_the_model(chest: Path, sight: Sight) -> None:
    volume = open_volume(chest)
    box = required_box(volume.geometry, CENTER)
    shape, affine = volume.geometry.shape, volume.geometry.affine
    views = views_of_request(volume.read_box(box), box.start, shape, affine, CENTER)
    np.testing.assert_array_equal(sight.views, views)
    drawn = {svg.attrib["data-view"]: svg for svg in html(sight).iter("svg") if "data-view" in svg.attrib}
    assert list(drawn) == list(VIEW_NAMES)
    for name, view, facts in zip(VIEW_NAMES, views, view_facts(), strict=True):
        picture = picture_in(drawn[name])
        assert (picture.mode, picture.size) == ("L", (50, 50))
        shown = np.rint(np.clip(view, 0, 1) * 255)
        np.testing.assert_array_equal(np.asarray(picture), shown[::-1] if facts.flip else shown)
        letters = [text.text for text in drawn[name].iter("text")][:4]
        assert letters == [
            edge.replace("S", "H").replace("I", "F") for edge in (facts.left, facts.right, facts.top, facts.bottom)
        ]


def test_the_sheet_shows_the_views_without_smoothing(sight: Sight) -> None:
    sheet = np.asarray(
        sheet_of(replace(sight, planes=()), title="A nodule", window=LUNG, crosshair=False).convert("RGB")
    )
    axial = np.rint(np.clip(sight.views[0], 0, 1) * 255).astype(np.uint8)
    side = 50 * VIEW_TIMES
    inner = slice(8, 42)  # letters and the scale bar lie at the edges
    blocks = np.kron(axial, np.ones((VIEW_TIMES, VIEW_TIMES), np.uint8))
    cut = slice(inner.start * VIEW_TIMES, inner.stop * VIEW_TIMES)
    tops = [
        y
        for y in range(60, 200)
        if (sheet[y : y + side, MARGIN : MARGIN + side, 0][cut, cut] == blocks[cut, cut]).all()
    ]
    assert len(tops) == 1


def test_planes_are_placed_in_millimetres(sight: Sight) -> None:
    drawn = {svg.attrib["data-plane"]: svg for svg in html(sight).iter("svg") if "data-plane" in svg.attrib}
    assert list(drawn) == ["axial", "coronal", "sagittal"]
    for plane in sight.planes:
        svg = drawn[plane.name]
        canvas = [float(n) for n in svg.attrib["viewBox"].split()]
        assert canvas == pytest.approx(
            [plane.canvas.left, plane.canvas.top, plane.canvas.width, plane.canvas.height], abs=1e-3
        )
        image = svg.find("image")
        assert image is not None
        box = [float(image.attrib[name]) for name in ("x", "y", "width", "height")]
        p = plane.picture
        assert box == pytest.approx([p.left, p.top, p.width, p.height], abs=1e-3)
        for kind, outline in (("cube", plane.cube), ("field", plane.field)):
            (rect,) = [r for r in svg.iter("rect") if r.attrib["class"] == kind]
            numbers = [float(rect.attrib[name]) for name in ("x", "y", "width", "height")]
            assert numbers == pytest.approx([outline.left, outline.top, outline.width, outline.height], abs=1e-3)
        picture = picture_in(svg)
        assert picture.size == plane.hu.shape[::-1]
        expected = np.rint(np.clip((plane.hu + 1000.0) / 1500, 0, 1) * 255)
        np.testing.assert_allclose(np.asarray(picture), expected, atol=1)
    assert [p.hu.shape for p in sight.planes] == [(120, 120), (50, 120), (50, 120)]
    assert sight.planes[1].picture.height == pytest.approx(120)


def test_the_sheet_draws_the_planes_in_one_scale(sight: Sight) -> None:
    """Three planes of 120 mm side by side; the ball is white where each plane has the centre."""
    sheet = np.asarray(sheet_of(sight, title="A nodule", window=LUNG, crosshair=False).convert("L")).astype(int)
    scale = (WIDTH - 2 * MARGIN - 2 * 14) / sum(plane.canvas.width for plane in sight.planes)
    left, tops = float(MARGIN), []
    for plane in sight.planes:
        x = left + (plane.center[0] - plane.canvas.left) * scale
        column = sheet[:, round(x)]
        lung = round((1000 - 850) / 1500 * 255)
        first = int(np.flatnonzero(np.abs(column - lung) <= 2)[0])
        ball = np.flatnonzero(column[first : first + round(plane.canvas.height * scale)] > 150) + first
        tops.append(ball.mean() - (plane.center[1] - plane.canvas.top) * scale)
        left += plane.canvas.width * scale + 14
    assert np.ptp(tops) < 3 * scale


def test_every_fact_and_warning_is_on_the_page(sight: Sight) -> None:
    warned = replace(sight, warnings=(InputWarning("CENTER_IN_AIR", "All <air>.", "Look & see."),), unread="Slice 7.")
    root = html(warned)
    text = " ".join(" ".join(root.itertext()).split())
    for facts in sight.facts.values():
        for name, value in facts:
            assert f"{name} {value}" in text
    assert "CENTER_IN_AIR All <air>. Look & see." in text
    assert "Slice 7." in text
    assert "1.2.840.77" in text


def test_nothing_of_the_patient_is_shown_and_nothing_is_fetched(sight: Sight, secrets: tuple[str, ...]) -> None:
    text = page_of(sight, title="A nodule", window=LUNG)
    bare = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert [word for word in secrets if word in bare] == []
    assert "http:" not in bare and "https:" not in bare and "url(" not in bare and "<script" not in bare
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    assert "default-src 'none'" in text
    data = png(sheet_of(sight, title="A nodule", window=LUNG))
    assert [word for word in secrets if word.encode() in data] == []
    assert Image.open(io.BytesIO(data)).info == {}


@pytest.mark.parametrize("crosshair", [True, False])
def test_crosshairs_are_an_option(sight: Sight, crosshair: bool) -> None:
    (switch,) = html(sight, crosshair=crosshair).iter("input")
    assert ("checked" in switch.attrib) is crosshair
    drawn = np.asarray(sheet_of(sight, title="A nodule", window=LUNG, crosshair=crosshair))
    assert bool((drawn == (0xFF, 0x9D, 0x9D)).all(axis=-1).any()) is crosshair


def test_what_has_no_voxels_shows_through() -> None:
    known = np.ones((4, 5), bool)
    known[0] = False
    box = Rectangle(0, 0, 5, 4)
    plane = Plane("axial", np.full((4, 5), 40, np.int16), known, box, box, box, (2, 2), "R", "L", "A", "P")
    image = plane_image(plane, SOFT_TISSUE)
    assert image.mode == "LA"
    assert np.asarray(image)[..., 1].tolist() == [[0] * 5, *[[255] * 5] * 3]
    assert np.asarray(image)[1, 0, 0] == round(200 / 400 * 255)
    whole = replace(plane, known=np.ones((4, 5), bool))
    assert plane_image(whole, LUNG).mode == "L"
    assert VOID_COLOR != "#000000"


def test_without_context_there_are_no_planes(chest: Path) -> None:
    bare = see(open_volume(chest), CENTER, context=False)
    assert bare.planes == ()
    root = html(bare)
    assert [svg for svg in root.iter("svg") if "data-plane" in svg.attrib] == []
    assert sheet_of(bare, title="A nodule", window=LUNG).width == WIDTH


def test_long_words_are_wrapped_and_none_is_lost() -> None:
    text = "one " + "1.2.840." * 30 + " and a few words more that need a second line at this width"
    lines = wrapped(text, 300, 16)
    assert all(font(16).getlength(line) <= 300 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(("width", "bar"), [(420, 100), (299, 50), (100, 20), (12, 2), (3, 1)])
def test_the_scale_bar_is_round_and_fits(width: float, bar: int) -> None:
    assert scale_bar_mm(width) == bar
