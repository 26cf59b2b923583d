"""noduleserve: a CLIP-based lung-nodule malignancy model in a screening programme.

The command line (`noduleserve.cli`), the tree of errors and the format of a release; everything else has a room.
"""

from .errors import NoduleserveError

__version__ = "0.1.0"

__all__ = ["NoduleserveError", "__version__"]
