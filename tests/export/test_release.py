"""The same input makes the same release; one of which a byte or a file changes is refused, the file named."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noduleserve.errors import CheckpointError, NoduleserveError, ReleaseError
from noduleserve.export import manifest
from noduleserve.export.assemble import ExportOptions, export_release
from noduleserve.export.checkpoint import Checkpoint
from noduleserve.export.text.features import Features
from noduleserve.preprocessing import PREPROCESSING_VERSION
from noduleserve.release import Release, seal_of

MODELS = ("nodule_encoder", "nodule_preprocess", "nodule_score", "nodule_similarity")
Calibration = list[dict[str, float]]


@pytest.fixture(scope="module")
def release(
    small_checkpoint: Checkpoint,
    small_features: Features,
    small_calibration: Calibration,
    tmp_path_factory: pytest.TempPathFactory,
) -> Release:
    out = tmp_path_factory.mktemp("release") / "deep" / "er" / "may"
    return export_release(
        small_checkpoint, small_calibration, small_features, out, ExportOptions(notice='no "real" \\ model')
    )


@pytest.fixture
def copy(release: Release, tmp_path: Path) -> Path:
    return shutil.copytree(release.folder, tmp_path / "copy")


def files_of(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def refusal(folder: Path) -> ReleaseError:
    with pytest.raises(ReleaseError) as caught:
        Release.open(folder)
    return caught.value


# ---------------------------------------------------------------- what is written


def test_a_release_is_complete(release: Release) -> None:
    encoder, preprocess, score, similarity = (f"model_repository/{model}" for model in MODELS)
    parts = ["__init__", "aligned", "box", "cube", "errors", "geometry", "lattice", "oblique", "request", "views"]
    assert files_of(release.folder) == sorted(
        ["MANIFEST.json", "parity.json", "proof.npz", "report.html"]
        + [f"model_repository/{model}/{file}" for model in MODELS for file in ("1/RELEASE", "config.pbtxt")]
        + [f"{encoder}/1/encoder.onnx", f"{score}/semantic_labels.txt", f"{similarity}/semantic_labels.txt"]
        + [f"{model}/1/model.py" for model in (encoder, preprocess, similarity)]
        + [f"{encoder}/1/{file}" for file in ("engine.py", "engine.json")]
        + [f"{preprocess}/1/preprocessing/{part}.py" for part in parts]
        + [f"{preprocess}/1/one_thread.py"]
        + [f"{similarity}/1/{file}" for file in ("head.py", "text_bank.npz", "calibration.json", "encoder_id.json")]
    )
    assert sorted(p.name for p in release.folder.parent.iterdir()) == ["may"]


def test_the_manifest_says_what_the_release_is(
    release: Release, small_checkpoint: Checkpoint, small_features: Features, small_calibration: Calibration
) -> None:
    manifest = release.manifest
    assert release.id == manifest["release_id"]
    assert release.id.startswith("ns-") and len(release.id) == 23
    assert manifest["folds"] == 2 and manifest["calibrated"] is True
    assert manifest["labels"] == ["shape.round", 'shape.ov"al\\']
    assert manifest["prompts"] == {"shape": {"round": ["a round nodule", "a ball"], 'ov"al\\': ["an oval nodule"]}}
    assert manifest["notice"] == 'no "real" \\ model'
    assert manifest["preprocessing"] == PREPROCESSING_VERSION
    assert manifest["calibration"] == small_calibration
    assert manifest["checkpoint"]["files"] == small_checkpoint.sha256
    assert (manifest["checkpoint"]["lora_state"], manifest["checkpoint"]["lora_state_decided_by"]) == (
        "merged",
        "folds",
    )
    assert manifest["parity"] == json.loads((release.folder / "parity.json").read_text())
    assert [link["name"] for link in manifest["parity"]["links"]] == ["merge", "graph"]
    assert manifest["parity"]["ok"] is True and manifest["parity_failed"] is False
    assert set(manifest["evidence"]) == {"parity.json", "proof.npz", "report.html"}
    assert set(manifest["files"] | manifest["evidence"]) == {
        f for f in files_of(release.folder) if Path(f).name not in ("RELEASE", "MANIFEST.json")
    }
    assert {"numpy", "onnx", "onnxruntime", "torch", "python", "noduleserve"} <= set(manifest["tools"])
    created = datetime.datetime.fromisoformat(manifest["created"])
    assert abs(datetime.datetime.now(datetime.UTC) - created) < datetime.timedelta(hours=1)


def test_every_model_carries_the_release_id_and_the_facts(release: Release) -> None:
    for model in MODELS:
        assert (release.repository / model / "1" / "RELEASE").read_text() == release.id
    for model in ("nodule_score", "nodule_similarity"):
        labels = (release.repository / model / "semantic_labels.txt").read_text().splitlines()
        assert labels == release.manifest["labels"]
    (line,) = [x for x in (release.repository / "nodule_score" / "config.pbtxt").read_text().splitlines() if "ov" in x]
    quoted = line[line.index('"{') : line.rindex('}"') + 2]
    facts = json.loads(json.loads(quoted))  # the configuration's strings are escaped as JSON's are
    assert facts["labels"] == release.manifest["labels"] and facts["notice"] == 'no "real" \\ model'


def test_the_bank_and_the_calibration_are_those_of_the_folds(release: Release, small_calibration: Calibration) -> None:
    similarity = release.repository / "nodule_similarity" / "1"
    assert json.loads((similarity / "calibration.json").read_text()) == small_calibration
    with np.load(similarity / "text_bank.npz", allow_pickle=False) as bank:
        assert bank["embeddings"].shape == (2, 2, 16)
        np.testing.assert_allclose(bank["scale"], np.exp([2.5, 2.6]), rtol=1e-6)
        np.testing.assert_array_equal(bank["groups"], [0, 0])
        assert np.abs(bank["embeddings"][0] - bank["embeddings"][1]).max() > 0.01


# ---------------------------------------------------------------- the release id


class Later(datetime.datetime):
    @classmethod
    def now(cls, tz: Any = None) -> datetime.datetime:
        return datetime.datetime(2031, 5, 4, 3, 2, 1, tzinfo=tz)


def test_the_same_input_makes_the_same_release(
    release: Release,
    small_checkpoint: Checkpoint,
    small_features: Features,
    small_calibration: Calibration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(manifest.datetime, "datetime", Later)
    notice = release.manifest["notice"]
    options = ExportOptions(notice=notice)
    again = export_release(small_checkpoint, small_calibration, small_features, tmp_path / "june", options)
    assert again.id == release.id
    assert again.manifest["created"].startswith("2031-05-04") and not release.manifest["created"].startswith("2031")
    assert files_of(again.folder) == files_of(release.folder)
    for file in files_of(release.folder):
        if file != "MANIFEST.json":
            assert (again.folder / file).read_bytes() == (release.folder / file).read_bytes(), file
    other = {"created": "", "seal": ""}
    assert again.manifest | other == release.manifest | other


def test_another_input_makes_another_release(
    release: Release, small_checkpoint: Checkpoint, small_features: Features, tmp_path: Path
) -> None:
    options = ExportOptions(notice=release.manifest["notice"])
    other = export_release(small_checkpoint, None, small_features, tmp_path / "r", options)
    assert other.id != release.id
    assert other.manifest["calibrated"] is False and other.manifest["calibration"] is None
    assert (other.repository / "nodule_similarity" / "1" / "calibration.json").read_text() == "null\n"


# ---------------------------------------------------------------- a release that was edited


def test_a_copy_is_the_same_release(copy: Path, release: Release) -> None:
    assert Release.open(copy).id == release.id


def test_one_byte_of_any_file_changed(copy: Path) -> None:
    for name in files_of(copy):
        file = copy / name
        content = file.read_bytes()
        for place in {0, len(content) // 2, len(content) - 2}:
            changed = bytearray(content)
            changed[place] ^= 1
            file.write_bytes(changed)
            error = refusal(copy)
            assert error.code == "RELEASE_EDITED", (name, place)
            assert name in error.what, (name, place)
        file.write_bytes(content)
    Release.open(copy)


def test_any_file_removed(copy: Path) -> None:
    for name in files_of(copy):
        content = (copy / name).read_bytes()
        (copy / name).unlink()
        error = refusal(copy)
        assert error.code == ("RELEASE_NOT_FOUND" if name == "MANIFEST.json" else "RELEASE_EDITED"), name
        assert name in error.what
        (copy / name).write_bytes(content)
    Release.open(copy)


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        ".hidden",
        "model_repository/nodule_similarity/1/model.pyc",
        "model_repository/nodule_similarity/1/numpy.py",
        "model_repository/nodule_encoder/2/model.py",
        "model_repository/other/config.pbtxt",
        "model_repository/other/1/RELEASE",
        "model_repository/nodule_score/2/RELEASE",
        "model_repository/nodule_score/RELEASE",
        "model_repository/nodule_score/MANIFEST.json",
        "RELEASE",
    ],
)
def test_a_file_added(copy: Path, release: Release, name: str) -> None:
    file = copy / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(release.id)
    error = refusal(copy)
    assert error.code == "RELEASE_EDITED" and name in error.what


def test_byte_code_that_serving_leaves_behind_is_no_edit(copy: Path, release: Release) -> None:
    for folder in ("nodule_encoder/1", "nodule_preprocess/1/preprocessing"):
        cache = copy / "model_repository" / folder / "__pycache__"
        cache.mkdir()
        (cache / "model.cpython-311.pyc").write_bytes(b"\x00")
    assert Release.open(copy).id == release.id


def test_a_file_exchanged_with_another(copy: Path) -> None:
    one, other = (copy / f"model_repository/{model}/1/model.py" for model in ("nodule_encoder", "nodule_similarity"))
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)
    error = refusal(copy)
    assert error.code == "RELEASE_EDITED"
    assert "nodule_encoder/1/model.py" in error.what and "nodule_similarity/1/model.py" in error.what


def test_a_file_and_its_hash_changed_together(copy: Path) -> None:
    """Somebody who also puts the manifest right is still found out by its seal, and then by the release id."""
    from hashlib import sha256

    name = "model_repository/nodule_similarity/1/calibration.json"
    (copy / name).write_text("null\n")
    edit_manifest(copy, lambda m: m["files"].update({name: sha256(b"null\n").hexdigest()}))
    error = refusal(copy)
    assert error.code == "RELEASE_EDITED" and "MANIFEST.json does not hash to its seal" in error.what
    edit_manifest(copy, lambda m: m.update(seal=seal_of(m)))
    error = refusal(copy)
    assert error.code == "RELEASE_EDITED" and "MANIFEST.json does not hash to its release id" in error.what


def test_a_link_in_place_of_a_file_or_of_a_folder(copy: Path, tmp_path: Path) -> None:
    for name in ("model_repository/nodule_similarity/1/head.py", "model_repository/nodule_similarity"):
        elsewhere = tmp_path / Path(name).name
        (copy / name).rename(elsewhere)
        (copy / name).symlink_to(elsewhere)
        error = refusal(copy)
        assert error.code == "RELEASE_EDITED" and name in error.what
        (copy / name).unlink()
        elsewhere.rename(copy / name)
    Release.open(copy)


@pytest.mark.parametrize("name", ["model_repository/other", "model_repository/nodule_score/2", "empty"])
def test_an_empty_folder_added(copy: Path, name: str) -> None:
    (copy / name).mkdir()
    error = refusal(copy)
    assert error.code == "RELEASE_EDITED" and f"{name} was added" in error.what


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    edit(manifest)
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another notice": lambda m: m.update(notice=""),
    "another label": lambda m: m["labels"].__setitem__(0, "shape.square"),
    "another parity": lambda m: m["parity"]["slots"].update(largest=0),
    "another time": lambda m: m.update(created="2031-05-04T03:02:01+00:00"),
    "another version of a tool": lambda m: m["tools"].update(numpy="1"),
    "other evidence": lambda m: m["evidence"].update({"parity.json": "0" * 64}),
    "no seal": lambda m: m.pop("seal"),
    "another calibration": lambda m: m["calibration"][0].update(a=1),
    "another release id": lambda m: m.update(release_id="ns-" + "0" * 20),
    "something more": lambda m: m.update(approved=True),
    "something less": lambda m: m.pop("licences"),
    "no release id": lambda m: m.pop("release_id"),
    "no files": lambda m: m.pop("files"),
    "files of another kind": lambda m: m.update(files=list(m["files"])),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_manifest(copy: Path, edit: str) -> None:
    edit_manifest(copy, EDITS[edit])
    error = refusal(copy)
    assert error.code == "RELEASE_EDITED" and "MANIFEST.json" in error.what


def test_a_manifest_written_in_another_way_is_the_same(copy: Path, release: Release) -> None:
    edit_manifest(copy, lambda m: m.update(folds=m.pop("folds")))  # another order, no indents
    assert Release.open(copy).id == release.id


@pytest.mark.parametrize("text", ["", "{", "\xff\xfe"])
def test_a_manifest_that_is_no_json(copy: Path, text: str) -> None:
    (copy / "MANIFEST.json").write_bytes(text.encode("latin-1"))
    error = refusal(copy)
    assert error.code == "RELEASE_EDITED" and "MANIFEST.json" in error.what


@pytest.mark.parametrize("content", [{"format": 1}, {"format": None}, {}, [], "1", 1, None])
def test_another_format(copy: Path, content: Any) -> None:
    if isinstance(content, dict):
        content = json.loads((copy / "MANIFEST.json").read_text()) | {"format": content.get("format", "1")}
    (copy / "MANIFEST.json").write_text(json.dumps(content))
    assert refusal(copy).code == "RELEASE_FORMAT"


def test_no_release(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        assert refusal(folder).code == "RELEASE_NOT_FOUND"


# ---------------------------------------------------------------- an export that fails


def fails(error: type[NoduleserveError] | type[Exception], *arguments: Any, **options: Any) -> Any:
    with pytest.raises(error) as caught:
        export_release(*arguments, **options)
    return caught.value


def test_nothing_is_written_over(small_checkpoint: Checkpoint, small_features: Features, tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "precious").write_text("x")
    file.write_text("x")
    for out in (folder, file):
        assert fails(ReleaseError, small_checkpoint, None, small_features, out).code == "OUT_NOT_EMPTY"
    assert files_of(tmp_path) == ["file", "folder/precious"]


def test_an_empty_folder_is_filled(small_checkpoint: Checkpoint, small_features: Features, tmp_path: Path) -> None:
    (tmp_path / "may").mkdir()
    release = export_release(small_checkpoint, None, small_features, tmp_path / "may")
    assert release.folder == tmp_path / "may"
    assert [p.name for p in tmp_path.iterdir()] == ["may"]


@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize("step", ["writing the image", "fold 0", "the graph in FP32", "every slot", "assembling"])
def test_a_broken_off_export_leaves_nothing(
    small_checkpoint: Checkpoint, small_features: Features, tmp_path: Path, step: str, empty: bool
) -> None:
    class BrokenOffError(Exception):
        pass

    def tell(line: str) -> None:
        if line.startswith(step):
            raise BrokenOffError

    if empty:
        (tmp_path / "may").mkdir()
    fails(BrokenOffError, small_checkpoint, None, small_features, tmp_path / "may", tell=tell)
    assert [p.name for p in tmp_path.rglob("*")] == (["may"] if empty else [])


def test_a_prompt_too_long_leaves_nothing(small_checkpoint: Checkpoint, tmp_path: Path) -> None:
    features = Features({"shape": {"a": ("word " * 80,), "b": ("x",)}})
    error = fails(CheckpointError, small_checkpoint, None, features, tmp_path / "may")
    assert error.code == "PROMPT_TOO_LONG"
    assert list(tmp_path.iterdir()) == []
