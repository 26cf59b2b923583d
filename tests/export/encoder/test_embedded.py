"""The embedded encoder: its three precisions, what a machine that lacks one does, and what a damaged plan says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_model import Size, folds_of, plain_of, random_views

import noduleserve.model_repository
from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint.layout import Dimensions
from noduleserve.export.encoder.embedded import ENGINES, write_embedded
from noduleserve.export.encoder.encoder_graph import build_encoder
from noduleserve.export.encoder.identity import stamp
from noduleserve.export.encoder.int8 import quantised, rounded_weight
from noduleserve.export.proof.outputs import onnx_encoder, probability
from noduleserve.served_engine import load_engine_module

Array = np.ndarray[Any, Any]
MODEL = Path(noduleserve.model_repository.__file__ or "").parent / "nodule_encoder" / "1"
ID = np.array([7, -8, 2**31 - 1, -(2**31)], np.int32)
SIZE = Size(layers=2)
PRODUCTS = 6 * SIZE.layers  # q, k, v, out, and two of the MLP in each block


def graph_of(folds: int) -> onnx.ModelProto:
    states = [plain_of(fold, SIZE) for fold in folds_of(folds, SIZE)]
    graph = build_encoder(states, Dimensions.of(states[0], "a fold"))
    stamp(graph, ID)
    return graph


@pytest.fixture(scope="module")
def engine() -> ModuleType:
    return load_engine_module(MODEL)


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    return graph_of(2)


@pytest.fixture(scope="module")
def folders(graph: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each precision as it lies in a release."""
    root = tmp_path_factory.mktemp("embedded")
    for precision in ("fp32", "bf16", "int8"):
        (root / precision).mkdir()
        write_embedded(graph, root / precision, precision)  # type: ignore[arg-type]
    return {folder.name: folder for folder in root.iterdir()}


def initializers(model: onnx.ModelProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def with_plan(folder: Path, plan: Any, graph: onnx.ModelProto) -> Path:
    onnx.save(graph, folder / "encoder.onnx")
    (folder / "engine.json").write_text(plan if isinstance(plan, str) else json.dumps(plan))
    return folder


# ---------------------------------------------------------------- FP32


def test_fp32_is_the_graph_on_onnx_runtime(folders: dict[str, Path], engine: ModuleType) -> None:
    views, lines = random_views(3), list[str]()
    found = engine.open_engine(folders["fp32"], log=lines.append)
    expected = onnx_encoder(folders["fp32"] / "encoder.onnx")(views)
    outputs = found(views)
    for one, other in zip(outputs, expected, strict=False):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)
        assert one.dtype == np.float32
    np.testing.assert_array_equal(outputs[3], np.tile(ID, (3, 1)))
    assert (found.way.precision, found.way.runtime, found.lacking, lines) == ("fp32", "onnxruntime", "", [])


def test_every_precision_keeps_the_graph_to_fall_back_to(folders: dict[str, Path]) -> None:
    fp32 = (folders["fp32"] / "encoder.onnx").read_bytes()
    for precision, files in (("bf16", {"encoder.onnx"}), ("int8", {"encoder.onnx", "encoder.int8.onnx"})):
        folder = folders[precision]
        assert {file.name for file in folder.iterdir()} == files | {"engine.json"}
        assert (folder / "encoder.onnx").read_bytes() == fp32


# ---------------------------------------------------------------- INT8


@pytest.mark.parametrize("folds", [1, 2])
def test_int8_rounds_the_towers_and_nothing_else(folds: int) -> None:
    before = graph_of(folds)
    bytes_before = before.SerializeToString(deterministic=True)
    after = quantised(before)
    assert before.SerializeToString(deterministic=True) == bytes_before
    onnx.checker.check_model(after)
    products = [node for node in after.graph.node if node.op_type == "MatMulIntegerToFloat"]
    assert len(products) == PRODUCTS
    weights = initializers(after)
    assert all(weights[node.input[1]].data_type == TensorProto.INT8 for node in products)
    old, integers = initializers(before), {node.input[1].removesuffix("/int8") for node in products}
    kept = old.keys() - integers
    assert {"projector.weight", "classifier.weight", "patches.weight", "encoder_id"} <= kept
    for name in kept:
        assert weights[name] == old[name]
    # No product of a tower's weight is left in floating point.
    floats = [n for n in after.graph.node if n.op_type == "MatMul" and n.name.startswith("block")]
    assert not [n for n in floats if n.input[1] in weights]
    assert after.graph.output == before.graph.output


@pytest.mark.parametrize("folds", [1, 2])
def test_int8_is_near_fp32(folds: int, tmp_path: Path, engine: ModuleType) -> None:
    graph, views = graph_of(folds), random_views(4)
    write_embedded(graph, tmp_path, "int8")
    served = engine.open_engine(tmp_path)
    found, exact = served(views), onnx_encoder(tmp_path / "encoder.onnx")(views)
    assert served.way.precision == "int8"
    assert (found[0] * exact.embedding).sum(axis=-1).min() > 0.998  # cosine
    # The small model's pooling and classifier are steeper than a trained one's.
    np.testing.assert_allclose(found[0], exact.embedding, rtol=0, atol=0.05)
    np.testing.assert_allclose(found[1], exact.view_attention, rtol=0, atol=0.1)
    np.testing.assert_allclose(probability(found[2]), probability(exact.logits), rtol=0, atol=0.05)
    np.testing.assert_array_equal(found[3], np.tile(ID, (4, 1)))
    assert np.abs(found[0] - exact.embedding).max() > 1e-5, "nothing was rounded"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_neighbours_change_no_bit(precision: str, folders: dict[str, Path], engine: ModuleType) -> None:
    encode, views = engine.open_engine(folders[precision]), random_views(3)
    alone = encode(views[1:2])
    for one, other in zip(encode(views), alone, strict=True):
        np.testing.assert_array_equal(one[1:2], other)


def test_int8_scales_each_row_by_itself(folders: dict[str, Path]) -> None:
    """Also where the graph gets a whole batch: the brightest nodule must not take the others' digits."""
    encode = onnx_encoder(folders["int8"] / "encoder.int8.onnx")
    views = random_views(2)
    extreme = np.concatenate([views[:1], 100 * views[1:]])
    np.testing.assert_allclose(encode(extreme).embedding[0], encode(views[:1]).embedding[0], rtol=0, atol=1e-6)


def test_int8_sums_are_exact_on_every_cpu(tmp_path: Path) -> None:
    """Instructions without VNNI add two products in 16 bits and cut off what does not fit."""
    rows, width, out = 50, 768, 64
    weight = numpy_helper.from_array(np.ones((width, out), np.float32), "block0.weight")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, rows, s]) for n, s in (("x", width), ("y", out))]
    node = helper.make_node("MatMul", ["x", "block0.weight"], ["y"], name="block0/product")
    model = helper.make_model(
        helper.make_graph([node], "product", values[:1], values[1:], [weight]),
        opset_imports=[helper.make_operatorsetid("", 18)],
        ir_version=9,
    )
    onnx.save(quantised(model), tmp_path / "product.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "product.onnx"), providers=["CPUExecutionProvider"])
    for sign in (1, -1):
        found = session.run(None, {"x": np.full((1, rows, width), sign, np.float32)})[0]
        np.testing.assert_allclose(found, sign * width, rtol=1e-6)


def test_rounded_weights_are_the_nearest() -> None:
    weight = np.random.default_rng(0).standard_normal((2, 40, 5)).astype(np.float32)
    weight[1, :, 3] = 0  # a channel that is off
    multiples, step = rounded_weight(weight)
    assert step.shape == (2, 1, 5)
    assert np.abs(multiples).max() == 127
    assert (np.abs(multiples * step - weight) <= 0.5001 * step).all()
    flat, flat_step = rounded_weight(weight[0])
    np.testing.assert_array_equal(flat, multiples[0])
    assert flat_step.shape == (5,)


def test_a_graph_without_towers_is_refused() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "none", values[:1], values[1:])
    with pytest.raises(CheckpointError, match="NOTHING_TO_QUANTISE"):
        quantised(helper.make_model(graph))


# ---------------------------------------------------------------- what a machine lacks

ZEN_3 = "fpu sse4_2 avx avx2 fma"
CASCADE_LAKE = "avx2 avx512f avx512bw avx512_vnni"
ZEN_4 = "avx2 avx512f avx512_vnni avx512_bf16"
SAPPHIRE_RAPIDS = "avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8"
AMX_ONLY = "avx2 amx_tile amx_bf16"


@pytest.mark.parametrize(
    ("flags", "can"), [(ZEN_3, False), (CASCADE_LAKE, False), (ZEN_4, True), (SAPPHIRE_RAPIDS, True), (AMX_ONLY, True)]
)
def test_bf16_is_for_cpus_that_have_it(flags: str, can: bool, folders: dict[str, Path], engine: ModuleType) -> None:
    cpuinfo = (
        f"processor\t: 0\nmodel name\t: a CPU with avx512_bf16 in its name\nflags\t\t: {flags}\nbugs\t\t: amx_bf16\n"
    )
    preferred, fallback = engine.read_ways(folders["bf16"])
    sentence = preferred.lacks(engine.cpu_flags(cpuinfo))
    assert sentence == ("" if can else "this CPU has not avx512_bf16 or amx_bf16")
    assert fallback.lacks(engine.cpu_flags(cpuinfo)) == ""


def test_no_flags_are_no_features(folders: dict[str, Path], engine: ModuleType) -> None:
    assert engine.read_ways(folders["bf16"])[0].lacks(engine.cpu_flags("")) != ""
    assert engine.cpu_flags("Features\t: fp asimd bf16\n") == {"fp", "asimd", "bf16"}  # Arm's word for flags


def test_a_cpu_that_lacks_the_precision_serves_fp32_and_says_so(
    tmp_path: Path, graph: onnx.ModelProto, engine: ModuleType
) -> None:
    folder = with_plan(tmp_path, ENGINES["bf16"] | {"cpu_needs_any": ["avx9_bf16", "no_such"]}, graph)
    lines: list[str] = []
    served, views = engine.open_engine(folder, log=lines.append), random_views(2)
    sentence = "this CPU has not avx9_bf16 or no_such"
    assert lines == [f"The encoder runs in fp32 instead of bf16: {sentence}."]
    assert (served.way.precision, served.lacking) == ("fp32", sentence)
    np.testing.assert_allclose(served(views)[0], onnx_encoder(folder / "encoder.onnx")(views)[0], rtol=0, atol=2e-6)


def test_bf16_runs_where_the_cpu_has_it(folders: dict[str, Path], engine: ModuleType) -> None:
    preferred, _ = engine.read_ways(folders["bf16"])
    if sentence := preferred.lacks(engine.cpu_flags()):
        pytest.skip(sentence)
    pytest.importorskip("openvino")
    served, views = engine.open_engine(folders["bf16"]), random_views(3)
    assert served.way.precision == "bf16"
    difference = np.abs(served(views)[0] - onnx_encoder(folders["bf16"] / "encoder.onnx")(views)[0]).max()
    assert 1e-5 < difference < 0.03
    np.testing.assert_array_equal(served(views)[3], np.tile(ID, (3, 1)))


# As Triton's stub does it: engine.py from a folder, and noduleserve nowhere.
RUN = """
import json, sys
from pathlib import Path
import numpy as np
asked = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        asked.append(event)
sys.addaudithook(watch)
if "block" in sys.argv[3:]:
    sys.modules["openvino"] = None
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import engine
lines = []
served = engine.open_engine(Path(sys.argv[2]), threads=1, log=lines.append)
outputs = served(np.load(Path(sys.argv[2]) / "views.npy"))
np.savez(Path(sys.argv[2]) / "outputs.npz", *outputs)
print(json.dumps({"lines": lines, "way": [served.way.precision, served.way.runtime], "asked": asked}))
"""


def run_apart(folder: Path, home: Path, *words: str) -> tuple[dict[str, Any], list[Array]]:
    """Open the engine in a process of its own, with an empty home folder."""
    np.save(folder / "views.npy", random_views(2))
    home.mkdir()
    command = [sys.executable, "-c", RUN, str(MODEL), str(folder), *words]
    done = subprocess.run(command, env={"HOME": str(home), "PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "outputs.npz") as outputs:
        return json.loads(done.stdout.splitlines()[-1]), [outputs[name] for name in outputs.files]


def test_without_openvino_fp32_is_served_and_said(tmp_path: Path, graph: onnx.ModelProto) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with_plan(folder, ENGINES["bf16"] | {"cpu_needs_any": []}, graph)
    said, outputs = run_apart(folder, tmp_path / "home", "block")
    assert said["way"] == ["fp32", "onnxruntime"]
    assert said["lines"] == ["The encoder runs in fp32 instead of bf16: the Python package openvino is not installed."]
    np.testing.assert_allclose(outputs[0], onnx_encoder(folder / "encoder.onnx")(random_views(2))[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_computes_the_graph_and_reports_to_nobody(
    runtime: str, tmp_path: Path, graph: onnx.ModelProto
) -> None:
    pytest.importorskip(runtime)
    folder, home = tmp_path / "model", tmp_path / "home"
    folder.mkdir()
    with_plan(folder, {"precision": "fp32", "runtime": runtime, "graph": "encoder.onnx"}, graph)
    said, outputs = run_apart(folder, home)
    assert said == {"lines": [], "way": ["fp32", runtime], "asked": []}
    assert list(home.rglob("*")) == []
    expected = onnx_encoder(folder / "encoder.onnx")(random_views(2))
    for one, other in zip(outputs, expected, strict=False):
        np.testing.assert_allclose(one, other, rtol=0, atol=5e-6)
    np.testing.assert_array_equal(outputs[3], np.tile(ID, (2, 1)))


# ---------------------------------------------------------------- plans that cannot be followed

FP32 = {"precision": "fp32", "runtime": "onnxruntime", "graph": "encoder.onnx"}


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        ("{", "ENGINE_DAMAGED"),
        ("[]", "ENGINE_DAMAGED"),
        ('"fp32"', "ENGINE_DAMAGED"),
        ({}, "ENGINE_DAMAGED"),
        ({"precision": "fp32", "runtime": "onnxruntime"}, "ENGINE_DAMAGED"),
        (FP32 | {"graph": None}, "ENGINE_DAMAGED"),
        (FP32 | {"cpu_needs_any": "avx2"}, "ENGINE_DAMAGED"),
        (FP32 | {"cpu_needs_any": ["avx2"]}, "ENGINE_DAMAGED"),  # nothing to fall back to
        (ENGINES["bf16"] | {"fallback": None}, "ENGINE_DAMAGED"),
        (ENGINES["bf16"] | {"fallback": ENGINES["bf16"]}, "ENGINE_DAMAGED"),
        (ENGINES["bf16"] | {"fallback": 5}, "ENGINE_DAMAGED"),
        (FP32 | {"precision": "fp4"}, "ENGINE_UNKNOWN"),
        (FP32 | {"precision": "bf16"}, "ENGINE_UNKNOWN"),  # ONNX Runtime has none on a CPU
        (ENGINES["int8"] | {"fallback": FP32 | {"runtime": "abacus"}}, "ENGINE_UNKNOWN"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(
    plan: Any, code: str, tmp_path: Path, graph: onnx.ModelProto, engine: ModuleType
) -> None:
    with_plan(tmp_path, plan, graph)
    with pytest.raises(engine.EngineError) as refusal:
        engine.open_engine(tmp_path)
    assert refusal.value.code == code
    assert str(refusal.value).startswith(f"[{code}] ")
    assert "Mend: Export the release anew" in str(refusal.value)


def test_a_folder_without_a_plan_is_refused(tmp_path: Path, engine: ModuleType) -> None:
    with pytest.raises(engine.EngineError, match=r"\[ENGINE_DAMAGED\].*engine\.json"):
        engine.open_engine(tmp_path)


def test_threads(folders: dict[str, Path], engine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NODULESERVE_ENCODER_THREADS", raising=False)
    assert engine.threads_wanted() >= 1
    monkeypatch.setenv("NODULESERVE_ENCODER_THREADS", "3")
    assert engine.threads_wanted() == 3
    for wrong in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("NODULESERVE_ENCODER_THREADS", wrong)
        with pytest.raises(engine.EngineError, match=rf"\[THREADS_INVALID\].*{wrong}"):
            engine.open_engine(folders["fp32"])
