"""From LIDC's ratings, 1 to 5, to values of the semantic features: one table."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

# The ratings that LIDC's readers gave. Two of them number kinds, which have no mean.
SCALES = ("subtlety", "sphericity", "margin", "lobulation", "spiculation", "texture", "malignancy")
KINDS = ("internalStructure", "calcification")
RATINGS = SCALES + KINDS
NO_CALCIUM = 6  # of calcification; what is below names its pattern

_TESTS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}


@dataclass(frozen=True)
class Rule:
    """A value of a feature holds where all its conditions do: (rating, test, bound)."""

    feature: str
    value: str
    conditions: tuple[tuple[str, str, float], ...]

    def holds(self, ratings: Mapping[str, float]) -> bool | None:
        """Whether it does; None where a rating that it asks for is not known."""
        if any(rating not in ratings for rating, _, _ in self.conditions):
            return None
        return all(_TESTS[test](ratings[rating], bound) for rating, test, bound in self.conditions)


# Features and values are named as in the built-in features file. Of a feature's rules the first that holds counts;
# where none holds, or a rating is not known, nothing is said of the feature.
TABLE: tuple[Rule, ...] = (
    Rule("consistency", "pure ground glass", (("texture", "<", 2),)),
    Rule("consistency", "solid", (("texture", ">", 4),)),
    Rule("consistency", "part-solid", (("texture", ">=", 2), ("texture", "<=", 4))),
    Rule("margin conspicuity", "well defined", (("margin", ">=", 3),)),
    Rule("margin conspicuity", "poorly defined", (("margin", "<", 3),)),
    # Lobulated and spiculated at once: spiculation is named first, lobulation as the additional contour.
    Rule("margins", "spiculated", (("spiculation", ">=", 3),)),
    Rule("margins", "lobulated", (("lobulation", ">=", 3),)),
    Rule("margins", "smooth", (("spiculation", "<", 2), ("lobulation", "<", 2))),
    Rule("additional margins", "lobulated", (("spiculation", ">=", 3), ("lobulation", ">=", 3))),
    Rule("additional margins", "none", (("lobulation", "<", 2),)),
    Rule("additional margins", "none", (("spiculation", "<", 2),)),
    Rule("shape", "round", (("sphericity", ">", 3),)),
    Rule("shape", "oval", (("sphericity", "<=", 3),)),
    Rule("cyst-like spaces", "present", (("internalStructure", "=", 4),)),  # 4: air
    Rule("cyst-like spaces", "absent", (("internalStructure", "<", 4),)),
    Rule("eccentric calcification", "present", (("calcification", "=", 4),)),  # 4: non-central
    Rule("eccentric calcification", "absent", (("calcification", ">", 4),)),  # 5 central, 6 none
    Rule("eccentric calcification", "absent", (("calcification", "<", 4),)),  # popcorn, laminated, solid
)


def values_of(ratings: Mapping[str, float]) -> dict[str, str]:
    """The value of each semantic feature that the ratings settle: feature -> value.

    Args:
        ratings: by name, of one reader or the mean of several (of a rating of KINDS, what most of them said).
    """
    values: dict[str, str] = {}
    unknown: set[str] = set()
    for rule in TABLE:
        if rule.feature in values or rule.feature in unknown:
            continue
        holds = rule.holds(ratings)
        if holds is None:  # an earlier rule may have held: a later one settles nothing
            unknown.add(rule.feature)
        elif holds:
            values[rule.feature] = rule.value
    return values


def mean_ratings(readers: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """What readers say together: means of SCALES; of KINDS what most say, left out where no kind has most."""
    found: dict[str, list[float]] = {}
    for ratings in readers:
        for name, rating in ratings.items():
            found.setdefault(name, []).append(rating)
    means = {name: sum(given) / len(given) for name, given in found.items() if name not in KINDS}
    for name in KINDS:
        ranked = Counter(found.get(name, ())).most_common(2)
        if ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]):
            means[name] = ranked[0][0]
    return means
