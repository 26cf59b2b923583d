"""Plans by NVIDIA's own builder: which types, shapes and profiles it makes of the graphs, and what it refuses."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from onnx import TensorProto, helper
from small_model import Size, folds_of, plain_of

from noduleserve.engines.inspection import inspect_plan, text_of
from noduleserve.engines.machine import compute_capability
from noduleserve.engines.plan import Options, Plan, Profile, build_plan, configure, profiles_for
from noduleserve.errors import EngineError

WORD = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16"}
pytestmark = pytest.mark.usefixtures("trt")


def types_by_kind(plan: Plan) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for layer in plan.network["layers"]:
        kinds.setdefault(layer["kind"], set()).update(layer["types"])
    return kinds


@pytest.mark.parametrize("precision", WORD)
def test_names_types_shapes_and_layers(graphs: Callable[..., Path], tmp_path: Path, precision: str) -> None:
    lines: list[str] = []
    log = tmp_path / "build.log"
    plan = build_plan(graphs(precision), profiles=profiles_for(8), log=log, tell=lines.append)
    assert len(plan.content) > 100_000 and plan.seconds > 0
    assert plan.network["tensors"] == {
        "VIEWS": {"mode": "input", "type": "FLOAT", "shape": [-1, 9, 50, 50]},
        "EMBEDDING": {"mode": "output", "type": "FLOAT", "shape": [-1, 2, 16]},
        "VIEW_ATTENTION": {"mode": "output", "type": "FLOAT", "shape": [-1, 2, 9]},
        "LOGITS": {"mode": "output", "type": "FLOAT", "shape": [-1, 2, 2]},
        "ENCODER_ID": {"mode": "output", "type": "INT32", "shape": [-1, 4]},
    }
    kinds, low = types_by_kind(plan), WORD[precision]
    assert kinds["NORMALIZATION"] == kinds["SOFTMAX"] == {"FLOAT"}
    assert kinds["MATRIX_MULTIPLY"] == {"FLOAT", low}
    products = {layer["name"]: layer["types"] for layer in plan.network["layers"] if layer["kind"] == "MATRIX_MULTIPLY"}
    assert products["block0/mlp_in/product"] == products["block0/attention/scores"] == [low]
    assert products["clip_embedding"] == products["pooled"] == ["FLOAT"]
    others = set(WORD.values()) - {"FLOAT", low}
    assert not others & set.union(*kinds.values())
    # TensorRT's own words are in the log and were told, one by one.
    text = log.read_text()
    assert "[INFO] Detected 1 inputs and 4 output network tensors." in text
    assert "[INFO] Engine generation completed" in text
    assert [line for line in lines if line.startswith("[")] == text.splitlines()
    assert "Building engine" in lines  # a phase of the progress monitor
    assert f"MATRIX_MULTIPLY  -> {low}" in text_of(plan.network, plan.engine)


def test_profiles_are_one_nodule_and_up_to_a_full_batch() -> None:
    assert profiles_for(8) == (Profile(1, 1, 1), Profile(2, 8, 8))
    assert profiles_for(2) == (Profile(1, 1, 1), Profile(2, 2, 2))
    assert profiles_for(1) == (Profile(1, 1, 1),)


def test_both_profiles_reach_the_builder(graphs: Callable[..., Path], tmp_path: Path) -> None:
    """It plans the memory of each, and that of a batch of 8 is larger."""

    def activations(profiles: tuple[Profile, ...]) -> list[int]:
        log = tmp_path / "build.log"
        build_plan(graphs("fp16"), profiles=profiles, log=log)
        lines = [line for line in log.read_text().splitlines() if "Total Activation Memory" in line]
        return [int(line.split()[-2]) for line in lines]

    single, both = activations(profiles_for(1)), activations(profiles_for(8))
    assert (len(single), len(both)) == (1, 2)
    assert 0.9 * both[0] < single[0] < 1.1 * both[0] < both[1]


def test_profiles_that_cannot_be_are_refused_in_tensorrts_words(graphs: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(EngineError) as raised:
        build_plan(graphs("fp16"), profiles=[Profile(8, 4, 2)], log=tmp_path / "build.log")
    assert raised.value.code == "ENGINE_NOT_BUILT"
    assert "optimization profile" in raised.value.what.lower()


def test_external_data_are_read(graphs: Callable[..., Path], tmp_path: Path) -> None:
    two = graphs("fp16", largest_file=1)
    assert two.with_name("encoder.onnx.data").is_file()
    plans = [build_plan(g, profiles=profiles_for(1), log=tmp_path / "log") for g in (graphs("fp16"), two)]
    assert plans[0].network == plans[1].network
    alone = Path(shutil.copy(two, tmp_path))
    with pytest.raises(EngineError, match=r"ONNX_NOT_PARSED.*encoder\.onnx"):
        build_plan(alone, profiles=profiles_for(1), log=tmp_path / "log")


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_text("not a graph")
    with pytest.raises(EngineError, match=r"ONNX_NOT_PARSED.*TensorRT 11.*does not read encoder\.onnx: .*parse"):
        build_plan(tmp_path / "encoder.onnx", profiles=profiles_for(1), log=tmp_path / "log")


def test_an_operator_that_tensorrt_does_not_know_is_named(tmp_path: Path) -> None:
    views = helper.make_tensor_value_info("VIEWS", TensorProto.FLOAT, ["N", 9, 50, 50])
    out = helper.make_tensor_value_info("EMBEDDING", TensorProto.FLOAT, ["N", 9, 50, 50])
    node = helper.make_node("Det", ["VIEWS"], ["EMBEDDING"], name="a determinant")
    model = helper.make_model(helper.make_graph([node], "g", [views], [out]), ir_version=9)
    onnx.save(model, tmp_path / "encoder.onnx")
    with pytest.raises(EngineError, match=r"ONNX_NOT_PARSED.*a determinant"):
        build_plan(tmp_path / "encoder.onnx", profiles=profiles_for(1), log=tmp_path / "log")


def test_an_option_whose_library_is_missing_ends_in_tensorrts_words(
    graphs: Callable[..., Path], tmp_path: Path
) -> None:
    """A version-compatible plan carries a small runtime, which the RTX library of the tests does not have."""
    with pytest.raises(EngineError, match=r"ENGINE_NOT_BUILT.*libnvinfer_lean"):
        build_plan(graphs("fp16"), profiles=profiles_for(1), log=tmp_path / "log", options=Options(True, False))


class _Config:
    """Takes what is set, as a builder configuration does; that of the RTX library forgets hardware compatibility."""

    def __init__(self, none: object) -> None:
        self.hardware_compatibility_level = none
        self.flags: list[object] = []

    def clear_flag(self, flag: object) -> None:
        self.flags = [other for other in self.flags if other != flag]

    def set_flag(self, flag: object) -> None:
        self.flags.append(flag)


@pytest.mark.parametrize("chosen", [True, False])
def test_compatibilities_are_asked_of_the_builder(trt: ModuleType, chosen: bool) -> None:
    level, flag = trt.HardwareCompatibilityLevel, trt.BuilderFlag
    config = _Config(level.NONE)
    configure(trt, config, Options(chosen, chosen), workspace=None)
    assert config.hardware_compatibility_level == (level.AMPERE_PLUS if chosen else level.NONE)
    assert config.flags == ([flag.VERSION_COMPATIBLE] if chosen else [])


def test_a_hardware_compatible_plan_is_built_of_the_same_network(graphs: Callable[..., Path], tmp_path: Path) -> None:
    plain, compatible = (
        build_plan(graphs("fp16"), profiles=profiles_for(1), log=tmp_path / "log", options=Options(False, hardware))
        for hardware in (False, True)
    )
    assert plain.network == compatible.network
    assert len(compatible.content) > 100_000


def test_the_timing_cache_is_written_whole_and_taken_again(graphs: Callable[..., Path], tmp_path: Path) -> None:
    cache, log = tmp_path / "caches" / "timing.cache", tmp_path / "log"
    build_plan(graphs("fp16"), profiles=profiles_for(1), log=log, timing_cache=cache)
    assert cache.stat().st_size > 0 and cache.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in cache.parent.iterdir()] == ["timing.cache"]
    assert "Profiling results in this builder pass will be stored" in log.read_text()
    cache.write_bytes(b"of another world")
    build_plan(graphs("fp16"), profiles=profiles_for(1), log=log, timing_cache=cache)  # begun anew
    assert cache.read_bytes() != b"of another world"


@pytest.mark.skipif(compute_capability() is not None, reason="there is a GPU")
def test_without_a_gpu_a_plan_is_not_loaded_and_tensorrt_says_why(graphs: Callable[..., Path], tmp_path: Path) -> None:
    plan = build_plan(graphs("fp16"), profiles=profiles_for(1), log=tmp_path / "log")
    assert plan.engine is None
    with pytest.raises(EngineError, match=r"ENGINE_NOT_LOADED.*CUDA driver"):
        inspect_plan(plan.content)


@pytest.mark.skipif(compute_capability() is None, reason="there is no GPU")
def test_on_a_gpu_the_engine_tells_its_profiles(graphs: Callable[..., Path], tmp_path: Path) -> None:
    plan = build_plan(graphs("fp16"), profiles=profiles_for(8), log=tmp_path / "log")
    assert plan.engine
    views = plan.engine["tensors"]["VIEWS"]
    assert [[shape[0] for shape in profile] for profile in views["profiles"]] == [[1, 1, 1], [2, 8, 8]]
    # A shape tensor among them would keep Triton from replaying the engine as a CUDA graph.
    assert not any(tensor["is_shape_tensor"] for tensor in plan.engine["tensors"].values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_real_size(trt: ModuleType, tmp_path: Path, note: Callable[[str], None]) -> None:
    """Five folds of ViT-B/32 in fp16, random weights; what TensorRT makes of them is told at the suite's end."""
    from noduleserve.export.checkpoint.layout import Dimensions
    from noduleserve.export.encoder.encoder_graph import build_encoder
    from noduleserve.export.encoder.identity import encoder_id, stamp
    from noduleserve.export.encoder.save import save_model

    began = time.monotonic()
    size = Size(width=768, layers=12, embed=512, out=256)
    folds = [plain_of(fold, size) for fold in folds_of(5, size)]
    model = build_encoder(folds, Dimensions.of(folds[0], "a fold"), "fp16")
    stamp(model, encoder_id(model, tag="fp16"))
    (graph,) = save_model(model, tmp_path / "encoder.onnx")
    del model, folds
    written = time.monotonic() - began
    plan = build_plan(graph, profiles=profiles_for(8), log=tmp_path / "build.log")
    megabytes = len(plan.content) / 1e6
    memory = [line for line in (tmp_path / "build.log").read_text().splitlines() if "Memory:" in line]
    told = (
        f"TensorRT {trt.__version__}: five folds of ViT-B/32, fp16",
        f"graph {graph.stat().st_size / 1e6:.0f} MB, written in {written:.0f} s",
        f"plan {megabytes:.0f} MB, built in {plan.seconds:.0f} s, profiles {profiles_for(8)}",
        text_of(plan.network, plan.engine),
        *memory,
    )
    note("\n".join(told))
    kinds = types_by_kind(plan)
    assert kinds["NORMALIZATION"] == kinds["SOFTMAX"] == {"FLOAT"}
    halves = [y for y in plan.network["layers"] if y["kind"] == "MATRIX_MULTIPLY" and y["types"] == ["HALF"]]
    assert len(halves) == 12 * 8 + 1
    assert 300 < megabytes < 500
