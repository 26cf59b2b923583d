"""report.html: the parity figures of a release as a table and as a picture, in one file that loads nothing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from .parity import QUANTITIES, Link, Parity

# A picture's bytes depend on nothing but what it shows: no date, no random ids, no fonts of this machine.
_LOWEST = -7  # power of ten at the bottom of the picture
_STYLE: Any = {"svg.hashsalt": "noduleserve", "svg.fonttype": "none", "font.family": "sans-serif"}


def write_report(path: Path, parity: Parity) -> None:
    """Write the report."""
    text = resources.files(__package__).joinpath("report.html.j2").read_text()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(text).render(
        parity=parity, picture=_picture(parity.links), quantities=QUANTITIES, largest=max
    )
    path.write_text(page)


def _picture(links: Sequence[Link]) -> str:
    """Each fold's largest (dot) and mean (dash) difference, as a share of what the largest may be, as SVG."""
    columns = [(link, quantity) for link in links for quantity in QUANTITIES]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 4))
        axes = figure.add_axes((0.07, 0.2, 0.92, 0.75))
        for place, (link, quantity) in enumerate(columns):
            for values, mark, size in ((link.largest[quantity], "o", 4), (link.mean[quantity], "_", 9)):
                spread = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.zeros(1)
                # A difference of zero has no logarithm: it is drawn at the bottom.
                shares = np.maximum(np.array(values) / link.tolerance[quantity], 10.0**_LOWEST)
                axes.plot(place + spread, np.log10(shares), mark, color="#1f5f8b", markersize=size)
        axes.axhline(0, color="#b3261e", linewidth=1)
        axes.set_xticks(range(len(columns)), [f"{link.name}\n{q.replace('_', ' ')}" for link, q in columns], fontsize=7)
        decades = range(_LOWEST, 3)
        axes.set_yticks(decades, [f"1e{d}" if d else "limit" for d in decades], fontsize=8)
        axes.grid(axis="y", linewidth=0.3)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]
