"""What the page and the single picture share: grey values, names and letters of views, the scale bar."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noduleserve.preprocessing.views import HIGH_HU, LOW_HU
from noduleserve.results.report.view_pictures import ViewFacts, view_facts

from .planes import Plane

LUNG = (LOW_HU, HIGH_HU)
SOFT_TISSUE = (-160.0, 240.0)
# The window that the planes of the whole volume are shown in; the views are always in the model's.
WINDOWS = {"lung": LUNG, "soft": SOFT_TISSUE}
CUBE_COLOR, FIELD_COLOR, CROSS_COLOR, VOID_COLOR = "#7cc4ff", "#ffe08a", "#ff9d9d", "#27343f"
LEGEND = (
    "Solid outline: the 50-mm field of the straight views. Dashed: the 100-mm cube. "
    "Blue-grey: no voxels; the model sees 0 HU there."
)
VIEWS_NOTE = (
    "Each view is 50 × 50 mm in the lung window (-1000 to 500 HU), a pixel a millimetre. The model gets these numbers; "
    "views whose rows run from feet to head are turned over here, so that the head is up."
)
HISTOGRAM_NOTE = "voxels of the box by Hounsfield units"
_HEAD_AND_FEET = str.maketrans("SI", "HF")  # the letters that pictures in DICOM bear


def view_letters(facts: ViewFacts) -> dict[str, str]:
    """The letters at the edges of a view: left, right, top, bottom."""
    return {edge: getattr(facts, edge).translate(_HEAD_AND_FEET) for edge in ("left", "right", "top", "bottom")}


def view_grey(view: NDArray[np.float32], facts: ViewFacts) -> NDArray[np.uint8]:
    """A view as it lies on the screen, uint8 [50, 50]; what a spline overshoots is clipped."""
    grey = np.rint(np.clip(view, 0, 1) * 255).astype(np.uint8)
    return grey[::-1] if facts.flip else grey


def named_views(views: NDArray[np.float32]) -> list[tuple[ViewFacts, NDArray[np.uint8]]]:
    """Every view with its name, as it lies on the screen."""
    return [(facts, view_grey(view, facts)) for facts, view in zip(view_facts(), views, strict=True)]


def plane_image(plane: Plane, window: tuple[float, float]) -> Image.Image:
    """A plane's pixels in a window of Hounsfield units; transparent where there are none."""
    low, high = window
    grey = np.rint(np.clip((plane.hu.astype(np.float32) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    if plane.known.all():
        return Image.fromarray(grey)
    return Image.fromarray(np.stack([grey, plane.known.astype(np.uint8) * 255], axis=-1), "LA")


def png(image: Image.Image) -> bytes:
    """An image as the bytes of a PNG file, without a word beside its pixels."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def scale_bar_mm(width: float) -> int:
    """The length of a plane's scale bar: the longest round number that takes at most a third of its width."""
    return next((mm for mm in (100, 50, 20, 10, 5, 2) if mm <= width / 3), 1)
