"""The semantic features: which values a release reports, and the prompts that stand for them.

A features file of version 2 gives phrases and the templates that make prompts of them; one of version 1 gives the
prompts themselves. features.yaml beside this module is the built-in one and explains the format.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from noduleserve.errors import CheckpointError

from .strict_yaml import DuplicateKeyError, load

VERSIONS = (1, 2)
SLOT = "{}"  # where a template takes a phrase
_KEYS = {1: ("version", "features"), 2: ("version", "templates", "features")}
_FEATURE_KEYS = ("about", "templates", "values")


@dataclass(frozen=True)
class Features:
    """Features, their values and the prompts of each value, all in the file's order.

    Attributes:
        prompts: feature -> value -> prompts.
        about: feature -> one sentence for its readers; empty for a file of version 1.
    """

    prompts: dict[str, dict[str, tuple[str, ...]]]
    about: dict[str, str] = field(default_factory=dict)

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


def built_in_text() -> str:
    """The features file that comes with noduleserve."""
    return resources.files(__package__).joinpath("features.yaml").read_text(encoding="utf-8")


def read_features(path: Path | None = None) -> Features:
    """Read a features file; without a path, the one that comes with noduleserve.

    Raises:
        CheckpointError: FEATURES_UNREADABLE (no file, or no YAML), FEATURES_INVALID (anything else, with the names of
            the feature and the value where it is one's fault).
    """
    name = path.name if path else "the built-in features.yaml"
    try:
        content = load(path.read_text(encoding="utf-8") if path else built_in_text())
    except DuplicateKeyError as error:
        raise _invalid(name, str(error)) from None
    except (
        OSError,
        ValueError,
        RecursionError,
        yaml.YAMLError,
    ) as error:  # ValueError: not UTF-8, or a date like 13-13
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError("FEATURES_UNREADABLE", f"{name} cannot be read: {reason}") from None
    version = content.get("version") if isinstance(content, dict) else None
    if type(version) is not int or version not in VERSIONS:
        raise _invalid(name, f"it does not say `version: {VERSIONS[-1]}`")
    _require_known(name, content, _KEYS[version], "the file")
    features = content.get("features")
    if not isinstance(features, dict) or not features:
        raise _invalid(name, "`features` is not a table of features")
    _require_names(name, features, "the feature name", "a feature")
    if version == 1:
        return Features({feature: _values(name, feature, values, (SLOT,)) for feature, values in features.items()})
    templates = _templates(name, content, "the file")
    prompts = {feature: _feature(name, feature, table, templates) for feature, table in features.items()}
    return Features(prompts, {feature: " ".join(table["about"].split()) for feature, table in features.items()})


def _feature(name: str, feature: str, table: Any, templates: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The prompts of one feature of a file of version 2."""
    if not isinstance(table, dict):
        raise _invalid(name, f"the feature {feature!r} is not a table of {', '.join(_FEATURE_KEYS)}")
    _require_known(name, table, _FEATURE_KEYS, f"the feature {feature!r}")
    about = table.get("about")
    if not isinstance(about, str) or not about.strip():
        raise _invalid(name, f"the feature {feature!r} has no `about`, a sentence that says what it is")
    templates = _templates(name, table, f"the feature {feature!r}") or templates
    if not templates:
        raise _invalid(name, f"the feature {feature!r} has no `templates`, and neither has the file")
    prompts = _values(name, feature, table.get("values"), templates)
    for value, phrases in table["values"].items():
        for phrase in filter(_has_braces, phrases):  # more likely a template in the wrong place than a brace meant
            raise _invalid(
                name, f"the phrase {phrase!r} of {feature!r}, {value!r} has a brace, which only templates may"
            )
    return prompts


def _templates(name: str, table: dict[Any, Any], whose: str) -> tuple[str, ...]:
    """A table's own templates; none where it does not give any."""
    if "templates" not in table:
        return ()
    templates = table["templates"]
    if not _is_list_of_texts(templates):
        raise _invalid(name, f"the templates of {whose} are not a list of sentences")
    for template in templates:
        if template.count(SLOT) != 1 or _has_braces(template.replace(SLOT, "")):
            raise _invalid(
                name, f"the template {template!r} of {whose} has not exactly one {SLOT}, where the phrase goes"
            )
    return tuple(templates)


def _values(name: str, feature: str, values: Any, templates: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The prompts of each value of a feature: its phrases in all templates."""
    if not isinstance(values, dict) or len(values) < 2:
        raise _invalid(
            name, f"the feature {feature!r} has not two values or more; with one, its probability is always 1"
        )
    _require_names(name, values, f"a value of {feature!r} is", f"a value of {feature!r}")
    result: dict[str, tuple[str, ...]] = {}
    owner: dict[str, str] = {}
    for value, phrases in values.items():
        if not _is_list_of_texts(phrases):
            raise _invalid(name, f"the prompts of {feature!r}, {value!r} are not a list of sentences")
        result[value] = tuple(template.replace(SLOT, phrase) for phrase in phrases for template in templates)
        for prompt in result[value]:
            other = owner.setdefault(_as_read(prompt), value)
            twice = Counter(map(_as_read, result[value]))[_as_read(prompt)] > 1
            if twice or other != value:
                where = f"twice under {value!r}" if twice else f"under {other!r} and under {value!r}"
                raise _invalid(name, f"{feature!r} has the prompt {prompt!r} {where}")
    return result


def _require_known(name: str, table: dict[Any, Any], known: Iterable[str], whose: str) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1, 0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
            raise _invalid(name, f"{whose} has the unknown key {key!r} ({hint})")


def _require_names(name: str, table: dict[Any, Any], what: str, kind: str) -> None:
    """Refuse names that a line of a label file, or a reader, could not tell apart."""
    seen: dict[str, str] = {}
    for key in table:
        if not isinstance(key, str) or not key.strip():
            raise _invalid(name, f"{what} {key!r}, not text (write it in quotes)")
        if kind == "a feature" and "." in key:
            raise _invalid(name, f"{what} {key!r} has a dot, which parts a feature from its value")
        if key != key.strip() or not key.isprintable():
            raise _invalid(name, f"{what} {key!r}: it begins or ends with a space, or has a tab or line break in it")
        other = seen.setdefault(key.casefold(), key)
        if other != key:
            raise _invalid(name, f"{what} {key!r}, and another is {other!r}: they differ in case only")


def _is_list_of_texts(content: Any) -> bool:
    return isinstance(content, list) and bool(content) and all(isinstance(c, str) and c.strip() for c in content)


def _has_braces(text: str) -> bool:
    return "{" in text or "}" in text


def _as_read(prompt: str) -> str:
    """A prompt as CLIP's tokenizer reads it: in lower case, any white space as one space."""
    return " ".join(prompt.split()).lower()


def _invalid(name: str, why: str) -> CheckpointError:
    return CheckpointError(
        "FEATURES_INVALID",
        f"{name}: {why}.",
        "Write it like the features.yaml that `noduleserve features` prints.",
    )
