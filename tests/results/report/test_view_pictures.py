"""Names and letters of the nine views."""

from __future__ import annotations

import numpy as np

from noduleserve.preprocessing.views import VIEW_NAMES, nine_views
from noduleserve.results.report.view_pictures import view_facts


def test_letters_at_the_edges_are_where_the_views_lead() -> None:
    """A cube that grows toward L, P or S must grow toward that letter in every view that shows it."""
    assert [facts.technical for facts in view_facts()] == list(VIEW_NAMES)
    assert len({facts.name for facts in view_facts()}) == 9
    ramp = np.linspace(0, 1, 100, dtype=np.float32)
    for axis, (low, high) in enumerate((("I", "S"), ("A", "P"), ("R", "L"))):
        shape = [1, 1, 1]
        shape[axis] = 100
        views = nine_views(np.ascontiguousarray(np.broadcast_to(ramp.reshape(shape), (100, 100, 100))))
        for facts, view in zip(view_facts(), views, strict=True):
            seen = view[::-1] if facts.flip else view
            down = seen[-6].mean() - seen[5].mean()
            across = seen[:, -6].mean() - seen[:, 5].mean()
            for growth, before, after in ((down, facts.top, facts.bottom), (across, facts.left, facts.right)):
                ends = (before, after) if growth > 0.05 else (after, before)
                assert (low in ends[0] and high in ends[1]) == (abs(growth) > 0.05), facts
            assert "I" not in facts.top  # the head is up
