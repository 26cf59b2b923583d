"""The operations counted from the graph are those of a vision transformer's formula, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import pytest

pytest.importorskip("torch", reason="the graph is written by the export")

from noduleserve.benchmarks.encoder_graph import EMBED, FOLDS, OUT, PATCH, random_folds
from noduleserve.benchmarks.roofline.graph_work import Work, shapes_of, work_of
from noduleserve.export.checkpoint.layout import Dimensions, Tower
from noduleserve.export.encoder.encoder_graph import build_encoder


@dataclass(frozen=True)
class Vit:
    """A tower, and what a nodule's nine views cost in it by pencil and paper."""

    width: int = 128
    layers: int = 3
    tokens: int = (224 // PATCH) ** 2 + 1

    def flop(self, folds: int) -> dict[str, int]:
        w, t = self.width, self.tokens
        views = 9 * folds
        # The last layer asks from the class token only, and has one token after it.
        whole, last = self.layers - 1, 1
        return {
            "pixels and patches": 9 * 2 * (224 * 50 * 50 + 224 * 224 * 50 + (t - 1) * PATCH**2 * w),
            "q, k, v and out": views * 2 * w * w * (whole * 4 * t + last * (2 * t + 2)),
            "attention of tokens": views * 2 * 2 * t * w * (whole * t + last),
            "MLP": views * 2 * 8 * w * w * (whole * t + last),
            "projection and pooling": views * 2 * (w * EMBED + EMBED * OUT + OUT * (OUT // 2) + OUT // 2 + OUT),
        }


VIT = Vit()


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    dimensions = Dimensions(Tower(VIT.width, VIT.layers), Tower(64, 1), PATCH, 1, EMBED, OUT)
    return build_encoder(list(random_folds(VIT.width, VIT.layers)), dimensions)


@pytest.fixture(scope="module")
def work(graph: onnx.ModelProto) -> Work:
    return work_of(graph)


def test_operations_are_those_of_the_formula(work: Work) -> None:
    assert work.by_part() == VIT.flop(FOLDS)
    assert 0 < work.other_flop < 0.1 * work.product_flop


def test_a_batch_costs_as_many_times_and_its_weights_once(graph: onnx.ModelProto, work: Work) -> None:
    three = work_of(graph, 3)
    assert three.product_flop == 3 * work.product_flop
    assert three.weight_elements == work.weight_elements
    assert three.usual_bytes(4) < 3 * work.usual_bytes(4)
    assert three.usual_bytes(2) * 2 == three.usual_bytes(4)
    assert three.least_bytes(4) == 4 * (three.weight_elements + 3 * (9 * 50 * 50 + FOLDS * (OUT + 9 + 2)))


def test_weights_are_those_of_the_graph(graph: onnx.ModelProto, work: Work) -> None:
    stored = sum(len(tensor.raw_data) for tensor in graph.graph.initializer if tensor.data_type == 1)
    assert 0 <= 4 * work.weight_elements - stored < 0.01 * stored  # the rest are axes and shapes


def test_a_product_of_unknown_shape_is_not_guessed(graph: onnx.ModelProto) -> None:
    assert shapes_of(graph, 2)["VIEWS"] == (2, 9, 50, 50)
    node = onnx.helper.make_node("MatMul", ["never made", "VIEWS"], ["product"], name="product")
    broken = onnx.ModelProto()
    broken.CopyFrom(graph)
    broken.graph.node.append(node)
    with pytest.raises((ValueError, onnx.shape_inference.InferenceError)):
        work_of(broken)
