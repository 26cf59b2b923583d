"""Graphs on disk: one file or two, the same bytes every time, and the same numbers from both."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from small_model import folds_of, plain_of, random_views

from noduleserve.export.checkpoint.layout import Dimensions
from noduleserve.export.encoder.encoder_graph import build_encoder
from noduleserve.export.encoder.identity import encoder_id, stamp
from noduleserve.export.encoder.save import save_model


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    folds = [plain_of(fold) for fold in folds_of(2)]
    model = build_encoder(folds, Dimensions.of(folds[0], "a fold"))
    stamp(model, encoder_id(model, tag="a test"))
    helper.set_model_props(model, {"precision": "fp32"})
    return model


def test_a_small_graph_is_one_file(model: onnx.ModelProto, tmp_path: Path) -> None:
    assert save_model(model, tmp_path / "encoder.onnx") == [tmp_path / "encoder.onnx"]
    assert onnx.load(tmp_path / "encoder.onnx") == model
    assert [p.name for p in tmp_path.iterdir()] == ["encoder.onnx"]


def test_a_large_graph_keeps_its_weights_beside_it(model: onnx.ModelProto, tmp_path: Path) -> None:
    before = model.SerializeToString(deterministic=True)
    files = save_model(model, tmp_path / "encoder.onnx", largest_file=100_000)
    assert [p.name for p in files] == ["encoder.onnx", "encoder.onnx.data"]
    assert files[0].stat().st_size < 60_000 < files[1].stat().st_size
    assert model.SerializeToString(deterministic=True) == before, "the model was changed"
    onnx.checker.check_model(str(files[0]), full_check=True)
    shell = onnx.load(files[0], load_external_data=False)
    locations = {entry.value for t in shell.graph.initializer for entry in t.external_data if entry.key == "location"}
    assert locations == {"encoder.onnx.data"}  # relative: the folder can be moved
    offsets = [int(e.value) for t in shell.graph.initializer for e in t.external_data if e.key == "offset"]
    assert len(offsets) > 20 and all(offset % 4096 == 0 for offset in offsets)
    loaded = onnx.load(files[0])
    for tensor in loaded.graph.initializer:  # the only trace of where it lay
        del tensor.external_data[:]
        tensor.ClearField("data_location")
    assert loaded == model


def test_both_ways_give_the_same_numbers_wherever_they_lie(model: onnx.ModelProto, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    save_model(model, tmp_path / "one" / "encoder.onnx")
    save_model(model, tmp_path / "two" / "encoder.onnx", largest_file=1)
    moved = (tmp_path / "two").rename(tmp_path / "moved")
    views = random_views(2)
    one, two = (
        onnxruntime.InferenceSession(str(folder / "encoder.onnx")).run(None, {"VIEWS": views})
        for folder in (tmp_path / "one", moved)
    )
    assert len(one) == 4
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("largest_file", [2**30, 1])
def test_the_same_graph_gives_the_same_bytes(model: onnx.ModelProto, tmp_path: Path, largest_file: int) -> None:
    hashes = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        files = save_model(model, tmp_path / name / "encoder.onnx", largest_file)
        hashes.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert hashes[0] == hashes[1]
