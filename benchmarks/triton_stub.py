"""Which model a process of Triton serves."""

from __future__ import annotations

import re

_MODEL = re.compile(r"/(\w+)/\d+/model\.py")


def model_of(command_line: str) -> str | None:
    """The Python model whose process was started with a command line; None for any other process."""
    found = _MODEL.search(command_line)
    return found[1] if found else None
