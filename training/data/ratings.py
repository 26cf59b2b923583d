"""An example from what readers rated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .base import Example
from .vocabulary import mean_ratings, values_of

_DOUBT = 3  # of malignancy, 1 to 5: indeterminate


def labelled(name: str, patient: str, readers: Sequence[Mapping[str, float]], diameter: float | None = None) -> Example:
    """An example whose label and values come from ratings.

    Args:
        name: unique within the source.
        patient: as the source names it.
        readers: rating by name (1 to 5; see `vocabulary.RATINGS`), of each reader who marked the nodule.
        diameter: millimetres.

    Returns:
        An example: malignant where the mean rating of malignancy is above 3, benign where it is below, else no label.
    """
    means = mean_ratings(readers)
    mean = means.get("malignancy")
    label = None if mean is None or mean == _DOUBT else int(mean > _DOUBT)
    given = [ratings["malignancy"] for ratings in readers if "malignancy" in ratings]
    shares = [0.5 if rating == _DOUBT else float(rating > _DOUBT) for rating in given]
    soft = sum(shares) / len(shares) if shares else None
    return Example(
        name, patient, label, means, values_of(means), diameter, soft, tuple(values_of(ratings) for ratings in readers)
    )
