"""The first thing a visitor sees: a synthetic chest CT and a small release, scored for real.

The anatomy is made here; the release in `release/` is whole and served as any other.
"""
