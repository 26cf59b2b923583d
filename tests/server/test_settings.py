"""What a machine decides about a release: read, held against it, served; no score and no release id changes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from serving import COMMAND, Answer, Inputs, Refused, Wire, command, request_of, scored
from tritonclient.grpc import model_config_pb2

from noduleserve.errors import ServerError
from noduleserve.release import REPOSITORY, Release
from noduleserve.server.process import Endpoints, TritonProcess
from noduleserve.server.settings import ServerSettings, changed_configurations

ANYWHERE = Endpoints(grpc=0, http=0, metrics=0)
TEMPLATES = Path(__file__).parents[2] / "model_repository"
MANY = ServerSettings(
    preprocess_instances=2,
    encoder_instances=2,
    encoder_threads=1,
    encoder_batch=4,
    encoder_delay_us=3000,
    similarity_instances=2,
)


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "settings.toml").write_text(text)
    return tmp_path / "settings.toml"


def test_a_file_is_read_and_what_it_leaves_out_is_the_releases(tmp_path: Path) -> None:
    text = "# of this machine\nencoder_instances = 2\nencoder_delay_us = 0\n"
    settings = ServerSettings.read(written(tmp_path, text))
    assert settings == ServerSettings(encoder_instances=2, encoder_delay_us=0)
    assert settings.chosen == {"encoder_instances": 2, "encoder_delay_us": 0}
    assert str(settings) == "encoder_instances 2, encoder_delay_us 0"
    assert ServerSettings.read(written(tmp_path, "")).chosen == {}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("encoder_instance = 2", "encoder_instance"),
        ("[encoder]\ninstances = 2", "encoder"),
        ("encoder_instances = 0", "from 1 to 64"),
        ("encoder_instances = 65", "from 1 to 64"),
        ("encoder_delay_us = -1", "from 0 to 1000000"),
        ("encoder_instances = 2.0", "2.0"),
        ("encoder_instances = true", "True"),
        ('encoder_instances = "2"', "'2'"),
        ("encoder_instances = 2\nencoder_instances = 3", "not TOML"),
        ("encoder_instances", "not TOML"),
    ],
)
def test_what_is_no_setting_is_refused(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(ServerError) as raised:
        ServerSettings.read(written(tmp_path, text))
    assert raised.value.code == "SETTINGS_INVALID"
    assert word in raised.value.sentence and raised.value.mend


def test_files_that_are_not_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, code in (("binary", "SETTINGS_INVALID"), ("absent", "SETTINGS_NOT_FOUND"), (".", "SETTINGS_NOT_FOUND")):
        with pytest.raises(ServerError) as raised:
            ServerSettings.read(tmp_path / name)
        assert raised.value.code == code


# ---------------------------------------------------------------- configurations


def of_target(target: str, folder: Path) -> Release:
    """As much of a release as settings are held against: the configurations of the real templates."""
    facts = {"max_batch": 8, "folds": 1, "embedding": 256, "semantic": 20, "facts": "{}"}
    for model in ("nodule_preprocess", "nodule_encoder", "nodule_similarity"):
        (file,) = [f for f in (TEMPLATES / model).glob("config.*") if target in f.name or f.name.count(".") == 2]
        (folder / REPOSITORY / model).mkdir(parents=True)
        (folder / REPOSITORY / model / "config.pbtxt").write_text(Template(file.read_text()).substitute(facts))
    return Release(folder, {"target": target})


def parsed(text: str) -> Any:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("target", ["embedded", "onnxruntime", "tensorrt"])
def test_only_what_is_set_changes(target: str, tmp_path: Path) -> None:
    release = of_target(target, tmp_path)
    assert changed_configurations(release, ServerSettings()) == {}
    settings = ServerSettings(encoder_instances=3, encoder_batch=2, encoder_delay_us=7, max_queue=9)
    changed = changed_configurations(release, settings)
    assert sorted(changed) == ["nodule_encoder/config.pbtxt", "nodule_preprocess/config.pbtxt"]
    for path, text in changed.items():
        before, after = parsed((release.repository / path).read_text()), parsed(text)
        queue = after.dynamic_batching.default_queue_policy
        assert queue.max_queue_size == 9
        after.dynamic_batching.ClearField("default_queue_policy")
        if path.startswith("nodule_encoder"):
            assert [group.count for group in after.instance_group] == [3]
            assert list(after.dynamic_batching.preferred_batch_size) == [2]
            assert after.dynamic_batching.max_queue_delay_microseconds == 7
            after.instance_group[0].count = before.instance_group[0].count
            after.dynamic_batching.preferred_batch_size[:] = before.dynamic_batching.preferred_batch_size
            after.dynamic_batching.ClearField("max_queue_delay_microseconds")
            before.dynamic_batching.ClearField("max_queue_delay_microseconds")
        assert after == before


def test_settings_that_say_what_the_release_says_change_nothing(tmp_path: Path) -> None:
    settings = ServerSettings(encoder_instances=1, encoder_batch=1, preprocess_instances=1)
    assert changed_configurations(of_target("embedded", tmp_path), settings) == {}


@pytest.mark.parametrize(
    ("target", "settings"),
    [("tensorrt", ServerSettings(encoder_threads=2)), ("embedded", ServerSettings(encoder_batch=9))],
)
def test_settings_of_another_release_are_refused(target: str, settings: ServerSettings, tmp_path: Path) -> None:
    with pytest.raises(ServerError) as raised:
        changed_configurations(of_target(target, tmp_path), settings)
    assert raised.value.code == "SETTINGS_DO_NOT_FIT"
    assert next(iter(settings.chosen)) in raised.value.what


# ---------------------------------------------------------------- on Triton


def answers(process: TritonProcess, nodules: Sequence[Inputs]) -> list[Answer]:
    """All at once."""
    with Wire(process.endpoints.address) as wire, ThreadPoolExecutor(len(nodules)) as threads:
        return list(threads.map(lambda n: wire.unary(request_of(n[1], str(n[0]))), enumerate(nodules)))


@pytest.fixture
def several(nodule: Inputs) -> list[Inputs]:
    """Sixteen nodules with voxels of their own."""
    kind, voxels = nodule["VOXELS"]
    noise = np.random.default_rng(3)
    return [nodule | {"VOXELS": (kind, voxels + noise.integers(-200, 200, voxels.shape))} for _ in range(16)]


def test_no_setting_changes_a_score_or_the_release(release: Release, several: list[Inputs], tmp_path: Path) -> None:
    with TritonProcess(release, ANYWHERE) as process:
        expected = scored(answers(process, several))
    assert len({answer["MALIGNANCY"].item() for answer in expected}) == len(several)
    log = tmp_path / "triton.log"
    with TritonProcess(release, ANYWHERE, settings=MANY, log=log) as process:
        with Wire(process.endpoints.address) as wire:
            config = wire.stub.ModelConfig(model_config_request("nodule_encoder")).config
        assert config.instance_group[0].count == 2 and list(config.dynamic_batching.preferred_batch_size) == [4]
        found = scored(answers(process, several))
    for mine, theirs in zip(found, expected, strict=True):
        assert mine["RELEASE"].item() == release.id
        for name in ("MALIGNANCY", "MALIGNANCY_RAW", "SEMANTIC", "EMBEDDING", "VIEW_ATTENTION"):
            assert np.abs(mine[name] - theirs[name]).max() <= 1e-6, name
    assert Release.open(release.folder).id == release.id


def test_a_queue_that_is_full_refuses_and_takes_more_when_it_is_not(release: Release, several: list[Inputs]) -> None:
    with TritonProcess(release, ANYWHERE, settings=ServerSettings(max_queue=1)) as process:
        found = answers(process, several)
        refused = [answer for answer in found if isinstance(answer, Refused)]
        assert 0 < len(refused) < len(found)
        assert {(answer.status, "Exceeds maximum queue size" in answer.text) for answer in refused} == {
            ("UNAVAILABLE", True)
        }
        scored(answers(process, several[:1]))


def model_config_request(name: str) -> Any:
    from tritonclient.grpc import service_pb2

    return service_pb2.ModelConfigRequest(name=name)


def test_the_command_says_that_settings_are_applied(release: Release, tmp_path: Path) -> None:
    file = written(tmp_path, "encoder_threads = 1\nmax_queue = 50\n")
    ports = ("--grpc-port", "0", "--http-port", "0", "--metrics-port", "0")
    line = [str(COMMAND), "serve", str(release.folder), "--settings", str(file), *ports]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        first = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    assert first.startswith(f"ready: release {release.id}")
    assert first.endswith(", settings: encoder_threads 1, max_queue 50\n")


def refuses(run: Callable[..., subprocess.CompletedProcess[str]], *words: object) -> str:
    done = run(*words)
    assert done.returncode != 0
    return done.stderr


def test_commands_refuse_settings_that_are_none(release: Release, tmp_path: Path) -> None:
    file = written(tmp_path, "threads = 1\n")
    assert "[SETTINGS_INVALID]" in refuses(command, "serve", release.folder, "--settings", file)
    words = ("score", "absent.csv", "--out", "r.csv", "--server", "a:1", "--settings", file)
    assert "--settings" in refuses(command, *words)
