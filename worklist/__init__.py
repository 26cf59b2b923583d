"""Which nodules of which series are to be scored: the table, and how one is made from what radiologists have marked.

Coordinates are LPS millimetres throughout.
"""
