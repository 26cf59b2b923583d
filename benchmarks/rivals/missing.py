"""The sentence for a package that a rival needs and that is not here."""

from __future__ import annotations

import importlib.util

from noduleserve.errors import NoduleserveError


def missing(package: str) -> NoduleserveError:
    """The error for a package that the extra `bench` brings."""
    return NoduleserveError(
        "EXTRA_MISSING",
        f"This rival needs the Python package {package}, which is not installed.",
        "Run `pip install 'noduleserve[bench]'`, or leave this rival out.",
    )


def require(*packages: str) -> None:
    """Refuse to go on without these packages; imports none of them.

    Raises:
        NoduleserveError: EXTRA_MISSING.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise missing(package)
