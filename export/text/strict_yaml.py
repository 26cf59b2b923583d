"""YAML that says one thing only: a key that stands twice in a table is refused, where PyYAML keeps the last."""

from __future__ import annotations

from typing import Any

import yaml


class DuplicateKeyError(Exception):
    """A table has a key twice; its sentence names the key and both lines."""


def load(text: str) -> Any:
    """Plain tables, lists, texts and numbers of a YAML document; nothing that it names is ever run.

    Raises:
        DuplicateKeyError: a key twice in one table, at any depth.
        yaml.YAMLError: no YAML.
    """
    _require_each_key_once(yaml.compose(text, yaml.SafeLoader))
    return yaml.safe_load(text)


def _require_each_key_once(root: yaml.Node | None) -> None:
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:  # an alias may lead back to what holds it
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                name, line = (key.tag, str(key.value)), key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and name in lines:  # PyYAML refuses any key but a scalar itself
                    raise DuplicateKeyError(f"line {line} repeats the key {key.value!r} of line {lines[name]}")
                lines[name] = line
                waiting.append(value)
