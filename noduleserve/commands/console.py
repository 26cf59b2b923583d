"""What the commands share: where progress and errors go, and the sentence for a missing extra."""

from __future__ import annotations

from rich.console import Console

from noduleserve.errors import NoduleserveError

err = Console(stderr=True, highlight=False, soft_wrap=True)


def extra_missing(error: ModuleNotFoundError, extra: str) -> NoduleserveError:
    """The error for a package that an extra of noduleserve brings."""
    return NoduleserveError(
        "EXTRA_MISSING",
        f"This command needs the Python package {error.name}, which is not installed.",
        f"Run `pip install 'noduleserve[{extra}]'`.",
    )
