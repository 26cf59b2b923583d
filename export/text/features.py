"""The semantic features: which values a release reports, and the prompts that stand for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from noduleserve.errors import CheckpointError

VERSION = 1


@dataclass(frozen=True)
class Features:
    """Features, their values and the prompts of each value, all in the file's order.

    Attributes:
        prompts: feature -> value -> prompts.
    """

    prompts: dict[str, dict[str, tuple[str, ...]]]

    @property
    def labels(self) -> list[str]:
        """ "<feature>.<value>" of each value."""
        return [f"{feature}.{value}" for feature, value, _ in self.values()]

    @property
    def groups(self) -> list[int]:
        """For each value the number of its feature."""
        return [number for number, values in enumerate(self.prompts.values()) for _ in values]

    def values(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Feature, value and prompts of each value."""
        for feature, values in self.prompts.items():
            for value, prompts in values.items():
                yield feature, value, prompts


def read_features(path: Path | None = None) -> Features:
    """Read a features file; without a path, the one that comes with noduleserve.

    Raises:
        CheckpointError: FEATURES_UNREADABLE, FEATURES_INVALID.
    """
    name = path.name if path else "the built-in features.yaml"
    try:
        text = path.read_text() if path else resources.files(__package__).joinpath("features.yaml").read_text()
        content = yaml.safe_load(text)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError("FEATURES_UNREADABLE", f"{name} cannot be read: {reason}") from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise _invalid(name, f"it does not say `version: {VERSION}`")
    features = content.get("features")
    if not isinstance(features, dict) or not features:
        raise _invalid(name, "`features` is not a table of features")
    return Features({str(f): _values(name, f, values) for f, values in features.items()})


def _values(name: str, feature: Any, values: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(feature, str) or not feature.strip() or "." in feature:
        raise _invalid(name, f"the feature name {feature!r} is not text without a dot")
    if not isinstance(values, dict) or len(values) < 2:
        raise _invalid(
            name, f"the feature {feature!r} has not two values or more; with one, its probability is always 1"
        )
    result = {}
    for value, prompts in values.items():
        if not isinstance(value, str) or not value.strip():
            raise _invalid(name, f"a value of {feature!r} is {value!r}, not text (write it in quotes)")
        good = isinstance(prompts, list) and prompts and all(isinstance(p, str) and p.strip() for p in prompts)
        if not good:
            raise _invalid(name, f"the prompts of {feature!r}, {value!r} are not a list of sentences")
        result[value] = tuple(prompts)
    return result


def _invalid(name: str, why: str) -> CheckpointError:
    return CheckpointError(
        "FEATURES_INVALID", f"{name}: {why}.", "Write it like the features.yaml that comes with noduleserve."
    )
