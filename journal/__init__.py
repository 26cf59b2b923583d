"""The journal of a run: every outcome on the disk before it counts, so that a night that breaks off is taken up again.

One file of one record a line; `docs/journal.md` specifies it byte by byte, and results are rendered from it alone.
"""
