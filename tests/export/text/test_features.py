"""A features file is read in its order; a wrong one is refused with its name and its fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from noduleserve.errors import CheckpointError
from noduleserve.export.text.features import read_features

GOOD = """\
version: 1
features:
  shape:
    round: ["a round nodule", "a spherical nodule"]
    oval: ["an oval nodule"]
  calcified:
    "yes": ["a calcified nodule"]
    "no": ["a nodule without calcification"]
    1.5 mm: ["a nodule with a calcification of 1.5 mm"]
"""


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "mine.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_what_is_read(tmp_path: Path) -> None:
    features = read_features(write(tmp_path, GOOD))
    assert features.labels == ["shape.round", "shape.oval", "calcified.yes", "calcified.no", "calcified.1.5 mm"]
    assert features.groups == [0, 0, 1, 1, 1]
    assert next(iter(features.values())) == ("shape", "round", ("a round nodule", "a spherical nodule"))
    assert list(features.prompts) == ["shape", "calcified"]


def test_the_order_is_that_of_the_file(tmp_path: Path) -> None:
    text = "version: 1\nfeatures:\n  z: {b: [x], a: [y]}\n  a: {d: [x], c: [y], b: [z]}\n"
    features = read_features(write(tmp_path, text))
    assert features.labels == ["z.b", "z.a", "a.d", "a.c", "a.b"]
    assert features.groups == [0, 0, 1, 1, 1]


def test_the_built_in_features() -> None:
    features = read_features()
    assert features.labels == [
        "margin.smooth", "margin.spiculated", "margin.lobulated",
        "consistency.solid", "consistency.part-solid", "consistency.pure ground glass",
        "pleural attachment.attached", "pleural attachment.not attached",
    ]  # fmt: skip
    assert features.groups == [0, 0, 0, 1, 1, 1, 2, 2]
    assert all(prompts and all(len(p) > 10 for p in prompts) for _, _, prompts in features.values())


TWO = "{a: [one], b: [two]}"
UNREADABLE: list[str | bytes] = [
    "version: 1\nfeatures: {shape: {a: [x}}",
    "a: b: c",
    "version: 1\n\tfeatures: 1",
    "!!python/object/apply:os.mkdir ['{trap}']",
    b"version: 1\nfeatures: \xff\xfe",
    b"version: 1\nfeatures: \x00",
]
INVALID = {
    "": "version",
    "[1, 2]": "version",
    f"features: {{shape: {TWO}}}": "version",
    f"version: 2\nfeatures: {{shape: {TWO}}}": "version",
    f"version: '1'\nfeatures: {{shape: {TWO}}}": "version",
    "version: 1": "`features`",
    "version: 1\nfeatures: {}": "`features`",
    "version: 1\nfeatures: [shape]": "`features`",
    f"version: 1\nfeatures: {{sha.pe: {TWO}}}": "'sha.pe'",
    f"version: 1\nfeatures: {{7: {TWO}}}": "name 7",
    f"version: 1\nfeatures: {{'  ': {TWO}}}": "'  '",
    "version: 1\nfeatures: {shape: {a: [one]}}": "'shape'",
    "version: 1\nfeatures: {shape: {}}": "'shape'",
    "version: 1\nfeatures: {shape: [a, b]}": "'shape'",
    "version: 1\nfeatures: {shape: }": "'shape'",
    "version: 1\nfeatures: {shape: {a: [one], no: [two]}}": "False",
    "version: 1\nfeatures: {shape: {a: [one], 2: [two]}}": "'shape' is 2",
    "version: 1\nfeatures: {shape: {a: [one], '': [two]}}": "'shape' is ''",
    "version: 1\nfeatures: {shape: {a: one, b: [two]}}": "'shape', 'a'",
    "version: 1\nfeatures: {shape: {a: [one], b: []}}": "'shape', 'b'",
    "version: 1\nfeatures: {shape: {a: [one], b: [2]}}": "'shape', 'b'",
    "version: 1\nfeatures: {shape: {a: [one], b: [two, ' ']}}": "'shape', 'b'",
    "version: 1\nfeatures: {shape: {a: [one], b: }}": "'shape', 'b'",
    f"version: 1\nfeatures: {{good: {TWO}, shape: {{a: [one]}}}}": "'shape'",
}


@pytest.mark.parametrize("text", UNREADABLE)
def test_files_that_are_no_yaml(tmp_path: Path, text: str | bytes) -> None:
    trap = tmp_path / "trap"
    with pytest.raises(CheckpointError) as caught:
        read_features(write(tmp_path, text.replace("{trap}", str(trap)) if isinstance(text, str) else text))
    assert caught.value.code == "FEATURES_UNREADABLE" and "mine.yaml" in caught.value.what
    assert not trap.exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.yaml", tmp_path):
        with pytest.raises(CheckpointError) as caught:
            read_features(path)
        assert caught.value.code == "FEATURES_UNREADABLE" and path.name in caught.value.what


@pytest.mark.parametrize("text", INVALID)
def test_tables_that_are_wrong(tmp_path: Path, text: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_features(write(tmp_path, text))
    assert caught.value.code == "FEATURES_INVALID"
    assert "mine.yaml" in caught.value.what and INVALID[text] in caught.value.what
