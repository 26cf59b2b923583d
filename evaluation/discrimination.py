"""How well a score tells positives from negatives: areas, operating points, counts at a threshold.

Points come from scikit-learn where it has the measure. `auroc_of` and the like compute the same for many resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .figures import Bound, Confusion, Discrimination, Estimate, OperatingPoint
from .resampling import Cases, Curves, Resamples, Resampling, Statistic, estimates

ONE_CLASS = "All {n} nodules with a label are {kind}: nothing can be told apart, and no area under a curve exists."
# Stand-ins for the score of a nodule that failed: no threshold from 0 to 1 calls it rightly.
_MISSED, _FALSE_ALARM = -1.0, 2.0
_SLACK = 1e-9  # of a count, against rounding of (1 - target) * count
_Floats = NDArray[np.float64]


def one_class(cases: Cases) -> str:
    """A sentence where all labels are alike, or ""."""
    if cases.positives and cases.negatives:
        return ""
    if not len(cases):
        return "None of these nodules was scored."
    return ONE_CLASS.format(n=len(cases), kind="positive" if cases.positives else "negative")


def as_wrong_as_can_be(cases: Cases) -> Cases:
    """The same with every failed nodule ranked below all (positives) or above all (negatives)."""
    # One below the other: equal scores would share the precision of the last of them, which is the best they have.
    missed = _MISSED - np.arange(len(cases))
    stand_in = np.where(cases.labels == 1, missed, _FALSE_ALARM)
    return Cases(np.where(cases.failed, stand_in, cases.scores), cases.labels, cases.patients, cases.failed)


def areas(cases: Cases) -> tuple[float | None, float | None]:
    """AUROC and average precision, both None where all labels are alike."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    if one_class(cases):
        return None, None
    return (
        float(roc_auc_score(cases.labels, cases.scores)),
        float(average_precision_score(cases.labels, cases.scores)),
    )


def discrimination(cases: Cases, resampling: Resampling) -> Discrimination:
    """Areas under the curves, with intervals."""
    auroc, auprc = areas(cases)
    if why := one_class(cases):
        found = {"auroc": Estimate(None, reason=why), "auprc": Estimate(None, reason=why)}
    else:
        statistics: dict[str, Statistic] = {"auroc": auroc_of, "auprc": average_precision_of}
        found = estimates(cases, {"auroc": auroc, "auprc": auprc}, statistics, resampling)
    return Discrimination(
        nodules=len(cases),
        patients=len(np.unique(cases.patients)),
        positives=cases.positives,
        negatives=cases.negatives,
        failed=int(cases.failed.sum()),
        auroc=found["auroc"],
        auprc=found["auprc"],
    )


def bound(cases: Cases) -> Bound | None:
    """What the failed nodules could do at worst, or None where none failed."""
    if not cases.failed.any():
        return None
    auroc, auprc = areas(as_wrong_as_can_be(cases))
    positives = int(cases.labels[cases.failed].sum())
    return Bound(positives, int(cases.failed.sum()) - positives, auroc, auprc, float(np.mean(squared_errors(cases))))


def squared_errors(cases: Cases) -> _Floats:
    """(score - label) squared, [N]; 1 for a failed nodule."""
    errors: _Floats = (cases.scores - cases.labels) ** 2
    return np.where(cases.failed, 1.0, errors)


def roc_points(cases: Cases) -> tuple[tuple[float, float], ...]:
    """(1 - specificity, sensitivity) along the ROC curve."""
    from sklearn.metrics import roc_curve

    if one_class(cases):
        return ()
    false, true, _ = roc_curve(cases.labels, cases.scores)
    return tuple(zip(false.tolist(), true.tolist(), strict=True))


def precision_recall_points(cases: Cases) -> tuple[tuple[float, float], ...]:
    """(recall, precision) along the curve, recall ascending."""
    from sklearn.metrics import precision_recall_curve

    if one_class(cases):
        return ()
    precision, recall, _ = precision_recall_curve(cases.labels, cases.scores, drop_intermediate=True)
    return tuple(zip(recall[::-1].tolist(), precision[::-1].tolist(), strict=True))


# --- statistics of resamples: one number for each, NaN where a class is missing -----------------------------


def _share(part: _Floats, whole: _Floats) -> _Floats:
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def auroc_of(resamples: Resamples) -> _Floats:
    """Area under the ROC curve by the trapezoidal rule, [B]."""
    curves = resamples.curves
    area = np.sum(np.diff(curves.false, axis=1) * (curves.true[:, 1:] + curves.true[:, :-1]) / 2, axis=1)
    return _share(area, curves.positives * curves.negatives)


def average_precision_of(resamples: Resamples) -> _Floats:
    """Mean over the positives of the precision at their threshold, [B]."""
    curves = resamples.curves
    called = curves.true[:, 1:] + curves.false[:, 1:]
    precision = np.nan_to_num(_share(curves.true[:, 1:], called))
    return _share(np.sum(np.diff(curves.true, axis=1) * precision, axis=1), curves.positives)


def sensitivity_at_specificity_of(resamples: Resamples, target: float) -> _Floats:
    """The highest sensitivity of the thresholds whose specificity is at least the target, [B]."""
    curves = resamples.curves
    return _share(_at(curves.true, _last_allowed(curves, target)), curves.positives)


def specificity_at_sensitivity_of(resamples: Resamples, target: float) -> _Floats:
    """The highest specificity of the thresholds whose sensitivity is at least the target, [B]."""
    curves = resamples.curves
    return 1 - _share(_at(curves.false, _first_needed(curves, target)), curves.negatives)


def rates_at(resamples: Resamples, threshold: float) -> tuple[_Floats, _Floats, _Floats, _Floats]:
    """Sensitivity, specificity, positive and negative predictive value at a threshold, each [B]."""
    curves = resamples.curves
    place = int(np.sum(curves.thresholds >= threshold))
    true, false = curves.true[:, place], curves.false[:, place]
    missed, right = curves.positives - true, curves.negatives - false
    called: _Floats = np.add(true, false)
    left: _Floats = np.add(right, missed)
    return _share(true, curves.positives), _share(right, curves.negatives), _share(true, called), _share(right, left)


def _at(counts: _Floats, places: NDArray[np.int64]) -> _Floats:
    return np.take_along_axis(counts, places[:, None], axis=1)[:, 0]


def _last_allowed(curves: Curves, specificity: float) -> NDArray[np.int64]:
    most = (1 - specificity) * curves.negatives[:, None] + _SLACK
    return np.sum(curves.false <= most, axis=1) - 1


def _first_needed(curves: Curves, sensitivity: float) -> NDArray[np.int64]:
    fewest = sensitivity * curves.positives[:, None] - _SLACK
    return np.argmax(curves.true >= fewest, axis=1)


# --- operating points ---------------------------------------------------------------------------------------


def operating_points(
    cases: Cases, specificities: Sequence[float], sensitivities: Sequence[float], resampling: Resampling
) -> tuple[OperatingPoint, ...]:
    """What is reached at each specificity and at each sensitivity; none where all labels are alike."""
    if one_class(cases):
        return ()
    curves = Resamples(cases.scores, cases.labels, np.ones((1, len(cases)))).curves
    wanted = [("specificity", target) for target in specificities] + [("sensitivity", t) for t in sensitivities]
    places = [_place(curves, chosen, target) for chosen, target in wanted]
    statistics: dict[str, Statistic] = {}
    points: dict[str, float | None] = {}
    for (chosen, target), place in zip(wanted, places, strict=True):
        rates = _rates(curves, place)
        statistic = sensitivity_at_specificity_of if chosen == "specificity" else specificity_at_sensitivity_of
        statistics[f"{chosen} {target}"] = partial(statistic, target=target)
        points[f"{chosen} {target}"] = rates[0] if chosen == "specificity" else rates[1]
    found = estimates(cases, points, statistics, resampling)
    return tuple(
        _point(curves, chosen, target, place, found[f"{chosen} {target}"])
        for (chosen, target), place in zip(wanted, places, strict=True)
    )


def _place(curves: Curves, chosen: str, target: float) -> int:
    """Where on the curve the point lies; of equally good thresholds, the one that is better in what was chosen."""
    if chosen == "specificity":
        place = int(_last_allowed(curves, target)[0])
        return int(np.searchsorted(curves.true[0], curves.true[0, place], side="left"))
    place = int(_first_needed(curves, target)[0])
    return int(np.searchsorted(curves.false[0], curves.false[0, place], side="right")) - 1


def _rates(curves: Curves, place: int) -> tuple[float, float]:
    sensitivity = curves.true[0, place] / curves.positives[0]
    return float(sensitivity), float(1 - curves.false[0, place] / curves.negatives[0])


def _point(curves: Curves, chosen: str, target: float, place: int, found: Estimate) -> OperatingPoint:
    sensitivity, specificity = _rates(curves, place)
    threshold: float | None = float(curves.thresholds[place - 1]) if place else None
    note = "" if place else "No score is called: every threshold that calls one is less specific."
    if threshold is not None and threshold <= _MISSED:
        threshold, note = None, "No threshold reaches this while the failed nodules count as missed."
    if chosen == "specificity":
        return OperatingPoint(chosen, target, threshold, found, Estimate(specificity), note)
    return OperatingPoint(chosen, target, threshold, Estimate(sensitivity), found, note)


def confusions(cases: Cases, thresholds: Sequence[float], resampling: Resampling) -> tuple[Confusion, ...]:
    """The four counts at each threshold, and what follows from them."""
    return tuple(_confusion(cases, threshold, resampling) for threshold in thresholds)


def _confusion(cases: Cases, threshold: float, resampling: Resampling) -> Confusion:
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(cases.labels, (cases.scores >= threshold).astype(np.int64), labels=[0, 1])
    (right, false), (missed, true) = matrix.tolist()
    parts = {
        "sensitivity": (true, true + missed, "There is no positive."),
        "specificity": (right, right + false, "There is no negative."),
        "ppv": (true, true + false, "No nodule is called."),
        "npv": (right, right + missed, "Every nodule is called."),
    }
    points = {name: part / whole if whole else None for name, (part, whole, _) in parts.items()}
    statistics: dict[str, Statistic] = {
        name: partial(_rate_of, threshold=threshold, which=number) for number, name in enumerate(parts)
    }
    found = estimates(cases, points, statistics, resampling)
    rates = {n: e if e.value is not None else Estimate(None, reason=parts[n][2]) for n, e in found.items()}
    return Confusion(threshold, true, false, right, missed, **rates)


def _rate_of(resamples: Resamples, threshold: float, which: int) -> _Floats:
    return rates_at(resamples, threshold)[which]
