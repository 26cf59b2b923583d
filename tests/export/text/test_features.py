"""A features file is read in its order; a wrong one is refused with its name and its fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from noduleserve.cli import app
from noduleserve.errors import CheckpointError
from noduleserve.export.text.features import built_in_text, read_features

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


VOCABULARY = {
    "margin conspicuity", "margins", "additional margins", "shape", "consistency", "reticulation", "cyst-like spaces",
    "intra-nodular bronchiectasis", "necrosis", "cavitation", "eccentric calcification", "airway cut-off",
    "pleural attachment", "pleural retraction", "vascular convergence", "septal stretching",
    "paracicatricial emphysema",
}  # fmt: skip


def test_the_built_in_features() -> None:
    features = read_features()
    assert set(features.prompts) == VOCABULARY
    assert list(features.prompts["consistency"]) == ["solid", "part-solid", "pure ground glass"]
    assert list(features.prompts["margins"]) == ["smooth", "lobulated", "spiculated", "irregular"]
    described = ("margin conspicuity", "margins", "additional margins", "shape", "consistency")
    for feature, values in features.prompts.items():
        assert features.about[feature].endswith(".")
        assert len(features.about[feature]) > 60
        if feature not in described:
            assert list(values) == ["present", "absent"]
            assert all(" no " in prompt for prompt in values["absent"])
            assert not any(" no " in prompt for prompt in values["present"])
    for _, _, prompts in features.values():
        assert len(prompts) >= 3  # averaged over several sentences, none of which is more than one
        assert all(prompt.endswith(".") and "{" not in prompt for prompt in prompts)


def test_the_built_in_file_is_for_people() -> None:
    lines = built_in_text().splitlines()
    assert lines[0].startswith("# ")
    assert max(map(len, lines)) <= 120


TEMPLATES = """\
version: 2
templates: ["a nodule with {}.", "{}, seen on CT"]
features:
  shape:
    about: Its   form,
      seen from all sides.
    values: {round: [a round form, a ball], oval: [an oval form]}
  density:
    about: How dense.
    templates: ["it is {}"]
    values: {solid: [solid], other: [not solid, thin]}
"""


def test_prompts_are_phrases_in_all_templates(tmp_path: Path) -> None:
    features = read_features(write(tmp_path, TEMPLATES))
    assert features.prompts == {
        "shape": {
            "round": (
                "a nodule with a round form.",
                "a round form, seen on CT",
                "a nodule with a ball.",
                "a ball, seen on CT",
            ),
            "oval": ("a nodule with an oval form.", "an oval form, seen on CT"),
        },
        "density": {"solid": ("it is solid",), "other": ("it is not solid", "it is thin")},
    }
    assert features.about == {"shape": "Its form, seen from all sides.", "density": "How dense."}


def test_templates_of_the_features_alone_will_do(tmp_path: Path) -> None:
    text = "version: 2\nfeatures: {shape: {about: x, templates: ['{}'], values: {a: [one], b: [two]}}}"
    assert read_features(write(tmp_path, text)).prompts == {"shape": {"a": ("one",), "b": ("two",)}}


def test_a_file_of_version_1_may_have_braces_and_has_no_about(tmp_path: Path) -> None:
    features = read_features(write(tmp_path, "version: 1\nfeatures: {shape: {a: ['{} one'], b: [two]}}"))
    assert features.prompts == {"shape": {"a": ("{} one",), "b": ("two",)}}
    assert features.about == {}


TWO = "{a: [one], b: [two]}"
UNREADABLE: list[str | bytes] = [
    "version: 1\nfeatures: {shape: {a: [x}}",
    "a: b: c",
    "version: 1\n\tfeatures: 1",
    "version: 1\nfeatures: {[a]: 1}",
    "version: 1\nwhen: 2020-13-40",
    "[" * 2000,
    "!!python/object/apply:os.mkdir ['{trap}']",
    b"version: 1\nfeatures: \xff\xfe",
    b"version: 1\nfeatures: \x00",
]
INVALID = {
    "": "version",
    "[1, 2]": "version",
    f"features: {{shape: {TWO}}}": "version",
    f"version: 3\nfeatures: {{shape: {TWO}}}": "version",
    f"version: true\nfeatures: {{shape: {TWO}}}": "version",
    f"version: [1]\nfeatures: {{shape: {TWO}}}": "version",
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
    f"version: 1\nfeature: {{shape: {TWO}}}": "`features`?",
    f"version: 1\ntemplates: ['{{}}']\nfeatures: {{shape: {TWO}}}": "'templates'",
    # ---- what a label file, or a reader, cannot tell apart
    f"version: 1\nfeatures: {{' shape': {TWO}}}": "' shape'",
    f"version: 1\nfeatures: {{'shape ': {TWO}}}": "'shape '",
    f'version: 1\nfeatures: {{"sh\\nape": {TWO}}}': "'sh\\nape'",
    f'version: 1\nfeatures: {{"sh\\u2028ape": {TWO}}}': "'sh\\u2028ape'",
    'version: 1\nfeatures: {shape: {a: [one], "b\\tc": [two]}}': "value of 'shape' is 'b\\tc'",
    'version: 1\nfeatures: {shape: {a: [one], "b ": [two]}}': "value of 'shape' is 'b '",
    'version: 1\nfeatures: {shape: {a: [one], "b\\r": [two]}}': "value of 'shape' is 'b\\r'",
    f"version: 1\nfeatures: {{shape: {TWO}, Shape: {TWO}}}": "'Shape', and another is 'shape'",
    "version: 1\nfeatures: {shape: {Groß: [one], GROSS: [two]}}": "'GROSS', and another is 'Groß'",
    # ---- the same twice
    f"version: 1\nversion: 1\nfeatures: {{shape: {TWO}}}": "line 2 repeats the key 'version' of line 1",
    f"version: 1\nfeatures:\n  shape: {TWO}\n  shape: {TWO}": "line 4 repeats the key 'shape' of line 3",
    "version: 1\nfeatures:\n  shape:\n    a: [one]\n    b: [two]\n    a: [one]": "line 6 repeats the key 'a' of line 4",
    "version: 1\nfeatures: {shape: {a: [one], b: [two], a: [three]}}": "line 2 repeats the key 'a' of line 2",
    "version: 1\nfeatures: {shape: {a: [one], b: [two, ' One']}}": "prompt ' One' under 'a' and under 'b'",
    "version: 1\nfeatures: {shape: {a: [one, two, 'one '], b: [three]}}": "prompt 'one' twice under 'a'",
}
SHAPE = "{about: x, values: {a: [one], b: [two]}}"
INVALID |= {
    f"version: 2\n{text}": fault
    for text, fault in {
        "templates: ['{}']": "`features`",
        f"features: {{shape: {SHAPE}}}": "'shape' has no `templates`",
        f"templates: []\nfeatures: {{shape: {SHAPE}}}": "the templates of the file are not a list",
        f"templates: '{{}}'\nfeatures: {{shape: {SHAPE}}}": "the templates of the file are not a list",
        f"templates:\nfeatures: {{shape: {SHAPE}}}": "the templates of the file are not a list",
        f"templates: [no slot]\nfeatures: {{shape: {SHAPE}}}": "'no slot' of the file has not exactly one {}",
        f"templates: ['{{}}', '{{}} {{}}']\nfeatures: {{shape: {SHAPE}}}": "'{} {}' of the file has not exactly one {}",
        f"templates: ['{{}} {{x}}']\nfeatures: {{shape: {SHAPE}}}": "'{} {x}' of the file has not",
        f"templates: ['{{0}}']\nfeatures: {{shape: {SHAPE}}}": "'{0}' of the file has not",
        f"templates: ['{{}}', '{{}}']\nfeatures: {{shape: {SHAPE}}}": "prompt 'one' twice under 'a'",
        f"template: ['{{}}']\nfeatures: {{shape: {SHAPE}}}": "'template' (did you mean `templates`?)",
        f"templates: ['{{}}']\nfeatures: {{shape: {SHAPE}}}\nauthor: me": "'author' (known are version, templates,",
    }.items()
} | {
    f"version: 2\ntemplates: ['{{}}']\nfeatures: {{good: {SHAPE}, shape: {table}}}": fault
    for table, fault in {
        "[a]": "'shape' is not a table",
        "{about: x, value: {a: [one], b: [two]}}": "'shape' has the unknown key 'value' (did you mean `values`?)",
        "{about: x, templats: ['{}'], values: {a: [one], b: [two]}}": "did you mean `templates`?",
        "{about: x, values: {a: [one], b: [two]}, 7: 8}": "'shape' has the unknown key 7",
        "{values: {a: [one], b: [two]}}": "'shape' has no `about`",
        "{about: ' ', values: {a: [one], b: [two]}}": "'shape' has no `about`",
        "{about: [x], values: {a: [one], b: [two]}}": "'shape' has no `about`",
        "{about: x}": "'shape' has not two values",
        "{about: x, values: {a: [one]}}": "'shape' has not two values",
        "{about: x, values: {a: [one], b: two}}": "'shape', 'b'",
        "{about: x, values: {a: [one], b: ['in {}']}}": "'in {}' of 'shape', 'b' has a brace",
        "{about: x, values: {a: [one], b: [one]}}": "'shape' has the prompt 'one' under 'a' and under 'b'",
        "{about: x, templates: ['in'], values: {a: [one], b: [two]}}": "'in' of the feature 'shape' has not",
        "{about: x, templates: [1], values: {a: [one], b: [two]}}": "templates of the feature 'shape' are not",
    }.items()
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


# ---------------------------------------------------------------- the command


def test_the_command_prints_a_file_to_start_from(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["features"])
    assert done.exit_code == 0
    assert read_features(write(tmp_path, done.stdout)) == read_features()


def test_the_command_checks_a_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["features", "--check", str(write(tmp_path, TEMPLATES))])
    assert done.exit_code == 0, done.output
    cells = [
        [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in done.stdout.splitlines()
    ]
    assert ["shape", "round, oval", "4, 2", "11"] in cells  # "a nodule with a round form." and start and end are 9
    assert ["density", "solid, other", "1, 2", "6"] in cells
    assert "2 features, 4 values, 9 prompts" in done.stdout


def test_the_command_refuses_a_wrong_file(tmp_path: Path) -> None:
    long = TEMPLATES.replace("a ball", "very " * 80 + "round")
    for text, code in ((TEMPLATES.replace("values", "value"), "FEATURES_INVALID"), (long, "PROMPT_TOO_LONG")):
        done = CliRunner().invoke(app, ["features", "--check", str(write(tmp_path, text))])
        assert isinstance(done.exception, CheckpointError) and done.exception.code == code
        assert done.stdout == ""
