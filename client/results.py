"""Moved."""
from noduleserve.results.outcome import *  # noqa: F403
