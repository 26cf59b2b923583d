"""Rules that say which labels of a semantic feature are positive, and which probability should be high for them.

    FEATURE=VALUE              labels are values of the feature; VALUE is positive, every other value negative
    FEATURE=VALUE:TEXT|TEXT    labels are any texts; these are positive, every other one negative
    FEATURE=VALUE:<=2          labels are numbers (also <, >=, >, =)
    FEATURE=VALUE:COLUMN<=2    labels are the numbers of another column; the feature needs none of its own

In each case the probability that is evaluated is that of VALUE.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from noduleserve.errors import EvaluationError

from .tables import Row, Table, number, quoted

SEMANTIC = "semantic."
_COMPARISON = re.compile(r"(<=|>=|<|>|=)\s*(\S+)")
_OF_A_COLUMN = re.compile(r"(.*?[^<>=\s])\s*(<=|>=|<|>|=)\s*(\S+)")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        text: as it was given.
        column: of the labels, which the labels are read from.
        feature, value: the probability that is evaluated.
        positive: texts that are positive, in lower case, or none where numbers are compared.
        compare, limit: how a number is compared, and with what, or None.
        values: values of the feature in lower case where every label must be one of them, or none.
    """

    text: str
    column: str
    feature: str
    value: str
    positive: frozenset[str]
    compare: str = ""
    limit: float | None = None
    values: frozenset[str] = frozenset()


def features_of(results: Table) -> dict[str, list[str]]:
    """The semantic features of the results, each with its values."""
    found: dict[str, list[str]] = {}
    for name in results.columns:
        feature, dot, value = name.removeprefix(SEMANTIC).partition(".")
        if name.startswith(SEMANTIC) and dot:
            found.setdefault(feature, []).append(value)
    return found


def labelled_features(results: Table, labels: Table) -> dict[str, str]:
    """Semantic features that the labels have a column for, with the column's name.

    Raises:
        EvaluationError: LABELS_COLUMNS where a feature has two columns.
    """
    found: dict[str, str] = {}
    for feature in features_of(results):
        columns = [name for name in _own(feature) if name in labels.columns]
        if len(columns) == 2:
            raise EvaluationError(
                "LABELS_COLUMNS",
                f"{labels.name} has two columns for one feature, {' and '.join(columns)}.",
                "Take out one of them.",
            )
        if columns:
            found[feature] = columns[0]
    return found


def read_rules(texts: Sequence[str], results: Table, labels: Table) -> list[Rule]:
    """Read the rules of --positive; a feature may have several.

    Raises:
        EvaluationError: POSITIVE_RULE.
    """
    features, labelled = features_of(results), labelled_features(results, labels)
    return [_rule(text, features, labelled, labels) for text in dict.fromkeys(texts)]


def _rule(text: str, features: dict[str, list[str]], labelled: dict[str, str], labels: Table) -> Rule:
    feature, equals, rest = (part.strip() for part in text.partition("="))
    if not equals or not rest:
        raise _refused(text, "is no rule", "Write FEATURE=VALUE, FEATURE=VALUE:TEXT or FEATURE=VALUE:<=NUMBER.")
    if feature not in features:
        raise _refused(text, "names a feature that the results do not have", f"They have {_listed(features)}.")
    values = features[feature]
    # A value may hold a colon itself: the longest value that fits is meant.
    value = max((v for v in values if rest == v or rest.startswith(v + ":")), key=len, default=None)
    if value is None:
        raise _refused(text, f"names none of the values of {feature}", f"They are {_listed(values)}.")
    condition, own = rest[len(value) + 1 :].strip(), labelled.get(feature, "")
    column = _compared_column(text, condition, own, labels)
    if not column and not own:
        raise _refused(
            text,
            f"names a feature that {labels.name} has no column for",
            f"Name a column {feature} there, or compare another one: {feature}={value}:COLUMN>=NUMBER.",
        )
    if rest == value:
        known = frozenset(v.casefold() for v in values)
        return Rule(text, own, feature, value, frozenset({value.casefold()}), values=known)
    comparison = _COMPARISON.fullmatch(condition[len(column) :].strip())
    if comparison:
        limit = number(comparison[2])
        if limit is None:
            raise _refused(text, f"compares with {quoted(comparison[2])}, which is no number", "Write, say, <=2.")
        return Rule(text, column or own, feature, value, frozenset(), comparison[1], limit)
    positive = _texts(condition)
    if not positive:
        raise _refused(text, "names no label after the colon", "Write FEATURE=VALUE:TEXT or leave the colon out.")
    return Rule(text, own, feature, value, positive)


def _texts(condition: str) -> frozenset[str]:
    return frozenset(part.strip().casefold() for part in condition.split("|") if part.strip())


def _compared_column(text: str, condition: str, own: str, labels: Table) -> str:
    """The column of the labels that a condition compares, or "" where it names none."""
    if _COMPARISON.fullmatch(condition):
        return ""
    if own and _texts(condition) <= {row.cells[own].casefold() for row in labels.rows}:
        return ""  # a label may itself read like a comparison
    # A name may hold a sign of comparison itself: the longest one that fits is meant.
    fitting = [c for c in labels.columns if c and condition.startswith(c)]
    fitting = [c for c in fitting if _COMPARISON.fullmatch(condition[len(c) :].strip())]
    if fitting:
        return max(fitting, key=len)
    other = _OF_A_COLUMN.fullmatch(condition)
    if other and "|" not in condition and number(other[3]) is not None:
        raise _refused(
            text,
            f"compares the column {quoted(other[1])}, which {labels.name} does not have",
            f"It has {_listed(labels.columns)}.",
        )
    return ""


def is_positive(rule: Rule, cell: str, labels: Table, row: Row) -> bool:
    """Whether a label, which is not empty, is positive by the rule.

    Raises:
        EvaluationError: LABEL_INVALID where the rule has nothing to say of such a label.
    """
    if rule.limit is not None:
        value = number(cell)
        if value is None:
            raise _invalid(rule, cell, labels, row, "not a number", "Leave the cell empty where there is no rating.")
        return _COMPARE[rule.compare](value, rule.limit)
    if rule.values and cell.casefold() not in rule.values:
        raise _invalid(
            rule,
            cell,
            labels,
            row,
            "none of the feature's values",
            f"Say which labels are positive: --positive '{rule.feature}={rule.value}:TEXT|TEXT', or :<=NUMBER.",
        )
    return cell.casefold() in rule.positive


def require_a_positive_text(rule: Rule, cells: Counter[str], labels: Table) -> None:
    """Refuse a rule whose texts no label is: it is misspelt more likely than that every nodule is negative.

    Raises:
        EvaluationError: POSITIVE_RULE.
    """
    there = {cell.casefold() for cell in cells}
    absent = sorted(rule.positive - there)
    if absent and not rule.values:
        raise _refused(
            rule.text,
            f"calls {quoted(absent[0])} positive, which {labels.name} has nowhere",
            f"Its labels are {_listed(cells)}.",
        )


def _own(feature: str) -> tuple[str, str]:
    """The names that a feature's own column may have in the labels."""
    return feature, SEMANTIC + feature


def _invalid(rule: Rule, cell: str, labels: Table, row: Row, what: str, mend: str) -> EvaluationError:
    whose = rule.feature if rule.column in _own(rule.feature) else f"{rule.feature} ({rule.column})"
    return EvaluationError(
        "LABEL_INVALID",
        f"{labels.name}, line {row.line}: the label of {whose} is {quoted(cell)}, {what}.",
        mend,
    )


def _refused(text: str, what: str, mend: str) -> EvaluationError:
    return EvaluationError("POSITIVE_RULE", f"--positive {quoted(text)} {what}.", mend)


def _listed(names: Sequence[str] | dict[str, list[str]] | Counter[str]) -> str:
    some = list(names)
    return ", ".join(some[:20]) + (", ..." if len(some) > 20 else "")
