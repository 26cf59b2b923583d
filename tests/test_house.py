"""The rules of the house: which room may import which, and what the light install may not need."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {
    *("torch", "torchvision", "open_clip", "peft", "safetensors", "onnx", "openvino", "tensorrt", "tensorrt_bindings"),
    *("scipy", "sklearn", "betacal", "joblib", "yaml", "matplotlib"),
}
# What each room may import of the others.
MAY_IMPORT = {
    "preprocessing": set(),
    "export": {"preprocessing", "errors", "release", "manifest", "model_repository", "served_engine"},
    "engines": {"errors", "release"},
    "server": {"engines", "errors", "release", "protocol"},
    "ct": {"preprocessing", "errors"},
    "worklist": {"ct", "preprocessing", "errors"},
    "results": {"ct", "worklist", "preprocessing", "errors"},
    "evaluation": {"errors"},
    "journal": {"results", "ct", "worklist", "preprocessing", "errors"},
    "client": {"results", "ct", "worklist", "preprocessing", "errors", "protocol"},
    "training": {"export", "evaluation", "ct", "worklist", "preprocessing", "errors"},
    "look": {"results", "ct", "preprocessing", "errors"},
}


def imported(file: Path) -> set[str]:
    """Modules that a file imports, relative ones left out."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module))
        elif isinstance(node, ast.ImportFrom) and node.level == 2:
            names.add(f"noduleserve.{node.module}")
    return names


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_they_may(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        rooms = {name.split(".")[1] for name in imported(file) if name.startswith("noduleserve.")}
        assert rooms - {room} <= MAY_IMPORT[room], f"{room}/{file.name} imports {sorted(rooms - MAY_IMPORT[room])}"


# Asked for within a function, with a sentence where they are absent.
ASKED_FOR = {
    "noduleserve/commands/calibration.py": {"joblib"},
    "noduleserve/commands/evaluate.py": {"sklearn", "scipy", "matplotlib"},
}
LIGHT = (
    *("preprocessing", "ct", "worklist", "journal", "results", "look"),
    *("engines", "server", "client", "noduleserve", "model_repository"),
)


@pytest.mark.parametrize("room", LIGHT)
def test_the_light_rooms_need_no_heavy_package(room: str) -> None:
    for file in sorted((ROOT / room).rglob("*.py")):
        tops = {name.split(".")[0] for name in imported(file)}
        tops -= ASKED_FOR.get(file.relative_to(ROOT).as_posix(), set())
        assert not tops & HEAVY, f"{file.relative_to(ROOT)} imports {sorted(tops & HEAVY)}"


def test_files_stay_short_enough_to_read() -> None:
    files = [p for room in ROOT.iterdir() if room.is_dir() and room.name[0] != "." for p in room.rglob("*.py")]
    long = {p.relative_to(ROOT).as_posix(): n for p in files if (n := len(p.read_text().splitlines())) > 400}
    assert len(files) > 50
    assert not long


def test_every_refusal_of_the_table_is_in_the_readme() -> None:
    from noduleserve.preprocessing.errors import MENDS

    readme = (ROOT / "README.md").read_text()
    assert MENDS
    assert [code for code in MENDS if code not in readme] == []
