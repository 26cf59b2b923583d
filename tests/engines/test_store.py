"""Plans beside releases: which is found for which machine, and what is said where there is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noduleserve.engines.machine import Machine
from noduleserve.engines.plan import Options
from noduleserve.engines.repository import compose_repository
from noduleserve.engines.store import (
    Engine,
    build_engine,
    engine_key,
    find_engine,
    graph_sha256,
    open_engine,
    store_of,
)
from noduleserve.errors import EngineError
from noduleserve.release import Release

H100 = Machine("9.0", "10.13.3")


def put(store: Path, release: Release, gpu: str | None = "9.0", version: str = "10.13.3", **changes: Any) -> Engine:
    """A plan as another machine may have left it: content that only a GPU could judge, under a true record."""
    options = changes.pop("options", [])
    key = engine_key(gpu, version, graph_sha256(release), Options(**dict.fromkeys(options, True)))
    content = f"plan {key}".encode()
    record = {
        "key": key, "release_id": release.id, "graph_sha256": graph_sha256(release), "compute_capability": gpu,
        "tensorrt": version, "options": options, "plan_sha256": hashlib.sha256(content).hexdigest(),
        "built": "2026-01-01T00:00:00+00:00",
    } | changes  # fmt: skip
    (store / key).mkdir(parents=True)
    (store / key / "model.plan").write_bytes(content)
    (store / key / "ENGINE.json").write_text(json.dumps(record))
    return open_engine(store / key)


def refusal(release: Release, store: Path, machine: Machine = H100) -> tuple[str, str]:
    with pytest.raises(EngineError) as raised:
        find_engine(release, store, machine)
    return raised.value.code, raised.value.sentence


# ---------------------------------------------------------------- where


def test_plans_lie_beside_the_release_unless_told_otherwise(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NODULESERVE_ENGINES", raising=False)
    assert store_of(release) == release.folder.with_name("may.engines")
    monkeypatch.chdir(release.folder)
    assert store_of(Release(Path(), release.manifest)) == release.folder.with_name("may.engines")
    monkeypatch.setenv("NODULESERVE_ENGINES", str(tmp_path / "plans"))
    assert store_of(release) == tmp_path / "plans"
    assert store_of(release, tmp_path / "given") == tmp_path / "given"


def test_whatever_makes_another_plan_is_in_its_key() -> None:
    graph = "0123456789abcdef" * 4
    keys = {
        engine_key("9.0", "10.13.3", graph, Options()),
        engine_key("8.9", "10.13.3", graph, Options()),
        engine_key("9.0", "11.4.0", graph, Options()),
        engine_key("9.0", "10.13.3", graph[::-1], Options()),
        engine_key("9.0", "10.13.3", graph, Options(version_compatible=True)),
        engine_key("9.0", "10.13.3", graph, Options(hardware_compatible=True)),
        engine_key(None, "10.13.3", graph, Options()),
    }
    assert len(keys) == 7
    assert "sm90-trt10.13.3-0123456789ab" in keys and "nogpu-trt10.13.3-0123456789ab" in keys


def test_external_data_are_part_of_the_graph_s_hash(release: Release) -> None:
    files = release.manifest["files"]
    assert graph_sha256(release) == files["engine/encoder.onnx"]
    more = [
        Release(release.folder, release.manifest | {"files": files | {"engine/encoder.onnx.data": content}})
        for content in ("00", "11")
    ]
    assert len({graph_sha256(r) for r in (release, *more)}) == 3


# ---------------------------------------------------------------- what fits


def test_the_plan_of_this_gpu_and_this_tensorrt_is_found(release: Release, tmp_path: Path) -> None:
    put(tmp_path, release, "8.9")
    put(tmp_path, release, "9.0", "10.12.0")
    ours = put(tmp_path, release)
    assert find_engine(release, tmp_path, H100) == ours
    assert find_engine(release, tmp_path, Machine("8.9", None)).record["compute_capability"] == "8.9"


@pytest.mark.parametrize(
    ("options", "gpu", "version", "fits"),
    [
        ([], "9.0", "10.13.3", True),
        ([], "9.0", None, True),  # Triton itself refuses a plan of another version
        ([], "9.0", "10.13.4", False),
        ([], "8.9", "10.13.3", False),
        ([], "12.0", "10.13.3", False),
        (["version_compatible"], "9.0", "10.14.0", True),
        (["version_compatible"], "9.0", "10.9.0", False),  # earlier, though "9" sorts behind "13"
        (["version_compatible"], "9.0", "11.0.0", False),
        (["version_compatible"], "8.9", "10.14.0", False),
        (["hardware_compatible"], "8.0", "10.13.3", True),
        (["hardware_compatible"], "12.0", "10.13.3", True),
        (["hardware_compatible"], "7.5", "10.13.3", False),
        (["hardware_compatible"], "12.0", "10.14.0", False),
        (["version_compatible", "hardware_compatible"], "12.0", "10.14.0", True),
    ],
)
def test_what_fits(
    release: Release, tmp_path: Path, options: list[str], gpu: str, version: str | None, fits: bool
) -> None:
    engine = put(tmp_path, release, options=options)
    assert engine.fits(Machine(gpu, version)) is fits
    if fits:
        assert find_engine(release, tmp_path, Machine(gpu, version)) == engine
    else:
        assert refusal(release, tmp_path, Machine(gpu, version))[0] == "ENGINE_DOES_NOT_FIT"


def test_of_plans_that_fit_the_most_specific_is_taken(release: Release, tmp_path: Path) -> None:
    put(tmp_path, release, options=["version_compatible", "hardware_compatible"])
    broad = put(tmp_path, release, "8.0", options=["hardware_compatible"])
    assert find_engine(release, tmp_path, H100) == broad
    ours = put(tmp_path, release)
    assert find_engine(release, tmp_path, H100) == ours


# ---------------------------------------------------------------- refusals


def test_without_a_gpu(release: Release, tmp_path: Path) -> None:
    put(tmp_path, release)
    code, sentence = refusal(release, tmp_path, Machine(None, "10.13.3"))
    assert code == "NO_GPU" and "no GPU" in sentence


def test_without_a_plan(release: Release, make_release: Callable[..., Release], tmp_path: Path) -> None:
    put(tmp_path, make_release(tmp_path / "other", "bf16"))  # of another graph
    put(tmp_path, release, gpu=None)  # built without a GPU: never served
    for store in (tmp_path, tmp_path / "nowhere"):
        code, sentence = refusal(release, store)
        assert code == "ENGINE_MISSING"
        assert release.id in sentence and f"noduleserve build-engine {release.folder}" in sentence


def test_with_plans_for_others(release: Release, tmp_path: Path) -> None:
    put(tmp_path, release, "8.9")
    put(tmp_path, release, "9.0", "10.12.0")
    code, sentence = refusal(release, tmp_path)
    assert code == "ENGINE_DOES_NOT_FIT"
    assert "compute capability 8.9, TensorRT 10.13.3" in sentence
    assert "this machine has compute capability 9.0, TensorRT 10.13.3" in sentence
    assert f"noduleserve build-engine {release.folder}" in sentence


@pytest.mark.parametrize("damage", ["changed", "missing", "no record", "record without hash", "record of no use"])
def test_a_damaged_plan(release: Release, tmp_path: Path, damage: str) -> None:
    engine = put(tmp_path, release)
    record = engine.folder / "ENGINE.json"
    if damage == "changed":
        engine.plan.write_bytes(engine.plan.read_bytes()[:-1] + b"x")
    elif damage == "missing":
        engine.plan.unlink()
    elif damage == "no record":
        record.write_text("{")
    elif damage == "record without hash":
        record.write_text(json.dumps({k: v for k, v in engine.record.items() if k != "plan_sha256"}))
    else:
        record.write_text("7")
    code, sentence = refusal(release, tmp_path)
    assert code == "ENGINE_DAMAGED" and str(engine.folder) in sentence


def test_a_release_of_another_target_has_no_plan(make_release: Callable[..., Release], tmp_path: Path) -> None:
    embedded = make_release(tmp_path / "embedded", target="embedded")
    code, sentence = refusal(embedded, tmp_path)
    assert code == "TARGET_HAS_NO_ENGINE" and "`embedded`" in sentence
    with pytest.raises(EngineError, match="TARGET_HAS_NO_ENGINE"):
        build_engine(embedded, tmp_path / "store", without_gpu=True)
    assert not (tmp_path / "store").exists()


# ---------------------------------------------------------------- building into a store


@pytest.mark.usefixtures("trt")
def test_a_build_is_whole_is_kept_and_is_built_anew_when_forced(release: Release, tmp_path: Path) -> None:
    built = build_engine(release, tmp_path, without_gpu=True)
    assert sorted(p.name for p in built.folder.iterdir()) == [
        "ENGINE.json", "build.log", "layers.json", "layers.txt", "model.plan",
    ]  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == [built.folder.name]  # no timings where nothing can be timed
    record = json.loads((built.folder / "ENGINE.json").read_text())
    assert record["plan_sha256"] == hashlib.sha256(built.plan.read_bytes()).hexdigest()
    assert record["plan_bytes"] == built.plan.stat().st_size
    assert record["graph_sha256"] == hashlib.sha256((release.folder / "engine/encoder.onnx").read_bytes()).hexdigest()
    assert record["release_id"] == release.id and record["tensorrt"].startswith("11.")
    assert record["compute_capability"] is None
    assert record["profiles"] == [
        {"smallest": 1, "tuned": 1, "largest": 1}, {"smallest": 2, "tuned": 8, "largest": 8},
    ]  # fmt: skip
    assert "MATRIX_MULTIPLY" in (built.folder / "layers.txt").read_text()

    before = built.plan.stat().st_mtime_ns
    assert build_engine(release, tmp_path, without_gpu=True).plan.stat().st_mtime_ns == before
    assert build_engine(release, tmp_path, without_gpu=True, force=True).plan.stat().st_mtime_ns > before
    assert [p.name for p in tmp_path.iterdir()] == [built.folder.name]


@pytest.mark.usefixtures("trt")
def test_a_build_that_fails_leaves_nothing(release: Release, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="ENGINE_NOT_BUILT"):
        build_engine(release, tmp_path, without_gpu=True, options=Options(version_compatible=True))
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the repository


@pytest.mark.parametrize("copy", [False, True])
def test_a_repository_holds_what_the_manifest_lists_and_the_plan(
    make_release: Callable[..., Release], tmp_path: Path, copy: bool
) -> None:
    release = make_release(tmp_path / "may")
    cached = release.repository / "nodule_similarity" / "1" / "__pycache__"
    cached.mkdir()
    (cached / "model.pyc").write_bytes(b"planted")
    plan = put(tmp_path / "store", release).plan
    out = compose_repository(Release.open(release.folder), tmp_path / "out", plan, copy=copy)
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    there = {p.relative_to(release.repository).as_posix() for p in release.repository.rglob("*") if p.is_file()}
    assert found == there - {"nodule_similarity/1/__pycache__/model.pyc"} | {"nodule_encoder/1/model.plan"}
    assert (out / "nodule_encoder" / "1" / "RELEASE").read_text() == release.id
    assert (out / "nodule_encoder" / "1" / "model.plan").read_bytes() == plan.read_bytes()
    assert {p.is_symlink() for p in out.rglob("*") if p.is_file()} == {not copy}
    if copy:
        (tmp_path / "may").rename(tmp_path / "gone")
        assert (out / "nodule_encoder" / "config.pbtxt").is_file()


def test_a_folder_with_something_in_it_is_no_place_for_a_repository(release: Release, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(EngineError, match="REPOSITORY_NOT_EMPTY"):
        compose_repository(release, tmp_path)
