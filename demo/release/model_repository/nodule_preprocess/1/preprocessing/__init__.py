"""From a native box of a CT to nine views of a nodule: pure functions of arrays, numpy only.

It runs in the client and, copied beside the model, inside Triton's Python backend.
"""

from .box import Box, required_box
from .cube import CUBE, cut_cube
from .errors import BadRequest, parse_refusal
from .geometry import VolumeGeometry
from .lattice import Lattice
from .request import PREPROCESSING_VERSION, views_of_request
from .views import VIEW_NAMES, nine_views, window

__all__ = [
    "CUBE",
    "PREPROCESSING_VERSION",
    "VIEW_NAMES",
    "BadRequest",
    "Box",
    "Lattice",
    "VolumeGeometry",
    "cut_cube",
    "nine_views",
    "parse_refusal",
    "required_box",
    "views_of_request",
    "window",
]
