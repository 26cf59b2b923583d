"""Finds Triton, runs it on one release, and ends it with nothing left behind."""
