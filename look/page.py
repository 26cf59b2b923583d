"""A nodule's sight as one HTML page: it opens offline, prints, and needs no script and no network."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from numpy.typing import NDArray
from PIL import Image

from .picture import HISTOGRAM_NOTE, LEGEND, VIEWS_NOTE, named_views, plane_image, png, scale_bar_mm, view_letters
from .planes import Plane
from .sight import BIN_HU, Sight


def page_of(sight: Sight, *, title: str, window: tuple[float, float], crosshair: bool = True) -> str:
    """The page as text.

    Args:
        sight: what to show.
        title: heading of the page.
        window: HU range of the planes of the whole volume.
        crosshair: whether crosshairs show at first; a reader may switch them.
    """
    return _template().render(
        title=title,
        sight=sight,
        crosshair=crosshair,
        window=window,
        legend=LEGEND,
        views_note=VIEWS_NOTE,
        histogram_note=HISTOGRAM_NOTE,
        views=[
            (facts, _uri(Image.fromarray(np.ascontiguousarray(grey))), view_letters(facts))
            for facts, grey in named_views(sight.views)
        ],
        planes=[(plane, _uri(plane_image(plane, window)), _mark_sizes(plane)) for plane in sight.planes],
        bars=_bars(sight.histogram),
        bar_hu=BIN_HU,
    )


def _uri(image: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode("ascii")


def _mark_sizes(plane: Plane) -> dict[str, float]:
    """Millimetres of what is drawn on a plane in proportion to it."""
    width = plane.canvas.width
    return {"letter": width / 22, "edge": width / 60, "bar": scale_bar_mm(width)}


def _bars(histogram: NDArray[np.int64]) -> list[float]:
    """Heights of the bars, 0..1."""
    return (histogram / max(int(histogram.max()), 1)).round(4).tolist()


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("look.html.j2")
