"""The curves of a report, drawn by matplotlib as SVG; the same evaluation gives the same bytes."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .figures import Binning, Malignancy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE: Any = {
    "svg.hashsalt": "noduleserve",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_BLUE, _RED, _GREY = "#1f5f8b", "#b3471e", "#8a94a0"


@dataclass(frozen=True)
class Picture:
    """A drawing for a page.

    Attributes:
        title: what it shows.
        text: the same in words, for those who cannot see it.
        uri: the SVG as a data URI.
    """

    title: str
    text: str
    uri: str


def pictures_of(malignancy: Malignancy) -> list[Picture]:
    """ROC and precision-recall curve (where both classes are there), reliability, distribution of the scores."""
    found = [_roc(malignancy), _precision_recall(malignancy)] if malignancy.roc else []
    found += [_reliability(malignancy, binning) for binning in malignancy.calibration.binnings]
    return [*found, _distribution(malignancy)]


def _roc(malignancy: Malignancy) -> Picture:
    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle="--")
        axes.plot(*zip(*malignancy.roc, strict=True), color=_BLUE, linewidth=1.6)
        _square(axes, "1 - specificity", "sensitivity")

    value = malignancy.discrimination.auroc.value
    return Picture("ROC curve", f"ROC curve; the area under it is {value:.3f}.", _svg(draw))


def _precision_recall(malignancy: Malignancy) -> Picture:
    found = malignancy.discrimination
    share = found.positives / found.nodules

    def draw(axes: Axes) -> None:
        axes.axhline(share, color=_GREY, linewidth=0.8, linestyle="--")
        # Between two thresholds precision is that of the lower one, as average precision counts it.
        axes.step(*zip(*malignancy.precision_recall, strict=True), where="pre", color=_BLUE, linewidth=1.6)
        _square(axes, "sensitivity (recall)", "precision")

    text = (
        f"Precision-recall curve; average precision {found.auprc.value:.3f}, share of positives {share:.3f} (dashed)."
    )
    return Picture("Precision-recall curve", text, _svg(draw))


def _reliability(malignancy: Malignancy, binning: Binning) -> Picture:
    filled = [b for b in binning.bins if b.nodules]
    fewest, most = min(b.nodules for b in filled), max(b.nodules for b in filled)
    alike = most - fewest <= 1  # then a count at each point only hides the points

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle="--")
        for b in filled:
            if b.mean_score is None or b.observed_low is None or b.observed_high is None or b.observed is None:
                continue  # never of a filled bin
            axes.plot([b.mean_score] * 2, [b.observed_low, b.observed_high], color=_BLUE, linewidth=1)
            axes.plot(b.mean_score, b.observed, "o", color=_BLUE, markersize=4)
            if not alike:
                at = (b.mean_score, b.observed_high)
                axes.annotate(str(b.nodules), at, (0, 2), textcoords="offset points", ha="center", fontsize=7)
        _square(axes, "mean score of the bin", "share of positives")
        axes.set_ylim(-0.02, 1.08)

    counts = f"{fewest} to {most} nodules in each bin" if alike else "each point has its count of nodules above it"
    text = f"Reliability, bins of {binning.kind}; ECE {binning.ece:.3f}; {counts}."
    return Picture(f"Reliability, bins of {binning.kind}", text, _svg(draw))


def _distribution(malignancy: Malignancy) -> Picture:
    edges, negatives, positives = malignancy.histogram

    def draw(axes: Axes) -> None:
        for heights, color, sign, name in ((positives, _RED, 1, "positive"), (negatives, _BLUE, -1, "negative")):
            share = [sign * height / max(sum(heights), 1) for height in heights]
            axes.stairs(share, edges, fill=True, color=color, alpha=0.75)
            axes.text(0.5, 0.97 if sign > 0 else 0.03, f"{name}, {sum(heights)}", color=color, fontsize=8,
                      transform=axes.transAxes, ha="center", va="top" if sign > 0 else "bottom")  # fmt: skip
        axes.axhline(0, color="#444", linewidth=0.6)
        reach = 1.25 * max(*(h / max(sum(n), 1) for n in (positives, negatives) for h in n), 0.05)
        axes.set_ylim(-reach, reach)
        axes.set_xlim(0, 1)
        axes.set_xlabel("score")
        axes.set_ylabel("share of the class")
        axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.2g}")

    text = "How the scores of positive (above) and negative nodules (below) are spread, each as a share of its class."
    return Picture("Distribution of the scores", text, _svg(draw))


def _square(axes: Axes, x: str, y: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal", adjustable="box")
    axes.grid(linewidth=0.3)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _svg(draw: Any) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.6, 3.5), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.BytesIO()
        # No date, no program: a picture's bytes depend on nothing but what it shows.
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
