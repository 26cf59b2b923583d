"""noduleserve: a CLIP-based lung-nodule malignancy model in a screening programme.

The command line (`noduleserve.cli`), the tree of errors and the format of a release; everything else has a room.
"""

import os

from .errors import NoduleserveError

# onnxruntime 1.32 and later report to Microsoft and keep a device id; nothing here may talk to anyone unasked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

__all__ = ["NoduleserveError", "__version__"]
