"""From nodules to scores: cut the box of voxels around each, have a server score it, hand on what comes back.

`NoduleClient` and `AsyncNoduleClient` are for other people's programmes, `Engine` is what is inside them.
Never imports torch or `export`; what needs gRPC is imported when it is first asked for, since a process that only
reads series has no use for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noduleserve.worklist.table import Nodule, read_worklist

    from .engine import Engine
    from .nodule_client import AsyncNoduleClient, NoduleClient
    from .nodules import nodule_at
    from .options import EngineOptions

_PLACES = {
    "AsyncNoduleClient": "noduleserve.client.nodule_client",
    "Engine": "noduleserve.client.engine",
    "EngineOptions": "noduleserve.client.options",
    "Nodule": "noduleserve.worklist.table",
    "NoduleClient": "noduleserve.client.nodule_client",
    "nodule_at": "noduleserve.client.nodules",
    "read_worklist": "noduleserve.worklist.table",
}

__all__ = ["AsyncNoduleClient", "Engine", "EngineOptions", "Nodule", "NoduleClient", "nodule_at", "read_worklist"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
