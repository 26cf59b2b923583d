"""The image encoder of every fold as one ONNX graph: VIEWS [N,9,50,50] -> EMBEDDING, VIEW_ATTENTION, LOGITS.

Told from top to bottom: views -> pixels -> patches -> transformer -> projection -> attention pooling -> logits.

The activations carry a leading fold axis, [F, rows, width]. What LoRA leaves alone is one weight for all folds; what
differs is stacked, [F, out, in], and multiplied fold by fold. Up to the first block's q, k, v the folds do not differ
at all, so that axis is 1 there and the patches are embedded once.

In fp16 and bf16 the towers' matrix products, their biases and the GELU are of 16 bits. What adds up or divides stays in
float32: the residual stream, layer norms, softmax, and everything after the towers, down to the logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from noduleserve.export.checkpoint import State
from noduleserve.export.checkpoint.layout import IMAGE_SIZE, Dimensions
from noduleserve.preprocessing.views import VIEW, VIEW_NAMES

from . import precision as precisions
from .graph import GraphWriter

CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711])
VIEWS = len(VIEW_NAMES)


def build_encoder(
    folds: Sequence[State], dimensions: Dimensions, precision: precisions.Name = "fp32", *, emulate: bool = False
) -> onnx.ModelProto:
    """Write the graph.

    Args:
        folds: plain weights of each fold by the published keys.
        dimensions: of the model.
        precision: of the towers.
        emulate: write the graph for hardware without that precision: float32 rounded after every operator.

    Returns:
        A model whose inputs and outputs are float32 in every precision, N free:
        VIEWS [N,9,50,50], 0..1 -> EMBEDDING [N,F,out], L2-normalised; VIEW_ATTENTION [N,F,9]; LOGITS [N,F,2].

    Raises:
        CheckpointError: WEIGHT_OVERFLOWS, where a weight is beyond the precision's range.
    """
    return _Encoder(folds, dimensions, precision, emulate=emulate).build()


def resize_matrix() -> NDArray[np.float32]:
    """Linear interpolation from 50 to 224 points, both ends aligned, as scipy.ndimage.zoom(order=1): [224, 50]."""
    place = np.arange(IMAGE_SIZE) * (VIEW - 1) / (IMAGE_SIZE - 1)
    low = np.minimum(place.astype(np.int64), VIEW - 2)
    matrix = np.zeros((IMAGE_SIZE, VIEW))
    rows = np.arange(IMAGE_SIZE)
    matrix[rows, low], matrix[rows, low + 1] = 1 - (place - low), place - low
    return matrix.astype(np.float32)


def _gray_patches(fold: State) -> NDArray[np.float64]:
    """The patch convolution for one channel p that stands for three equal ones, [patch * patch, width].

    conv(w, (p - mean) / std) over the channels c is conv(sum_c w_c / std_c, p) - sum_c mean_c / std_c * sum(w_c); the
    second part does not depend on p and goes into `_positions`.
    """
    conv = fold["vision_model.conv1.weight"].astype(np.float64)  # [width, 3, patch, patch]
    return (conv / CLIP_STD[:, None, None]).sum(axis=1).reshape(len(conv), -1).T


def _positions(fold: State) -> NDArray[np.float64]:
    """What is added to the tokens: positions, the class token in row 0, the mean's share of the patches in the rest."""
    conv = fold["vision_model.conv1.weight"].astype(np.float64)
    table = fold["vision_model.positional_embedding"].astype(np.float64)  # [tokens, width]
    table[0] += fold["vision_model.class_embedding"]
    table[1:] -= (conv.sum(axis=(2, 3)) * (CLIP_MEAN / CLIP_STD)).sum(axis=1)
    return table


class _Encoder:
    """Writes the graph part by part, in the order in which a nodule passes through it."""

    def __init__(
        self, folds: Sequence[State], dimensions: Dimensions, precision: precisions.Name, *, emulate: bool
    ) -> None:
        self.folds, self.dim, self.graph = folds, dimensions, GraphWriter()
        self.low = precisions.region(self.graph, precision, emulate=emulate)
        self.tokens = dimensions.grid**2 + 1

    def build(self) -> onnx.ModelProto:
        x = self.patches(self.pixels("VIEWS"))
        for number in range(self.dim.image.layers):
            x = self.block(number, x, class_token_only=number == self.dim.image.layers - 1)
        embedding = self.pool(self.project(x))
        self.logits(embedding)
        folds = len(self.folds)
        return self.graph.model(
            {"VIEWS": ("N", VIEWS, VIEW, VIEW)},
            {
                "EMBEDDING": ("N", folds, self.dim.out),
                "VIEW_ATTENTION": ("N", folds, VIEWS),
                "LOGITS": ("N", folds, 2),
            },
            "Image encoder of a lung-nodule malignancy model: nine views to embedding, attention and logits per fold.",
        )

    def each(self, array_of: Callable[[State], NDArray]) -> NDArray[np.float32]:
        """What a function makes of each fold's weights: one array where all folds agree, else [F, ...]."""
        arrays = [array_of(fold).astype(np.float32, copy=False) for fold in self.folds]
        return arrays[0] if all(np.array_equal(arrays[0], other) for other in arrays[1:]) else np.stack(arrays)

    def linear(self, name: str, x: str, key: str) -> str:
        """A linear layer of the towers, within the region of low precision."""
        return precisions.linear(self.low, name, x, *self.pair(key))

    def pair(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight and bias of a layer, each shared or [F, ...]."""
        return self.each(lambda fold: fold[f"{name}.weight"]), self.each(lambda fold: fold[f"{name}.bias"])

    def head(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight [F, out, in] and bias [F, out] of a layer of the heads, where the fold axis must be F by now."""
        return (
            np.stack([fold[f"{name}.weight"] for fold in self.folds]),
            np.stack([fold[f"{name}.bias"] for fold in self.folds]),
        )

    def pixels(self, views: str) -> str:
        """[N,9,50,50] -> [N,9,224,224], both ends aligned; one channel, which `patches` takes for three."""
        g, matrix = self.graph, resize_matrix()
        rows = g.node("MatMul", "pixels/rows", [g.weight("resize", matrix), views])
        return g.node("MatMul", "pixels", [rows, g.weight("resize.transposed", matrix.T)])

    def patches(self, pixels: str) -> str:
        """[N,9,224,224] -> tokens [F or 1, 9N * tokens, width], after the first layer norm."""
        g, grid, patch, width = self.graph, self.dim.grid, self.dim.patch, self.dim.image.width
        split = g.reshape("patches/split", pixels, -1, grid, patch, grid, patch)
        turned = g.node("Transpose", "patches/turned", [split], perm=[0, 1, 3, 2, 4])
        flat = g.reshape("patches/flat", turned, 1, -1, patch * patch)
        kernel = self.low.weight("patches.weight", self.each(_gray_patches))
        embedded = self.low.node("MatMul", "patches/embedded", [self.low.enter("patches/flat", flat), kernel])
        embedded = self.low.leave("patches/embedded", embedded)
        by_image = g.reshape("patches/by_image", embedded, 0, -1, grid * grid, width)
        # A row of zeros in front makes room for the class token, which comes with the positions.
        room = g.node("Pad", "patches/room", [by_image, g.ints(0, 0, 1, 0, 0, 0, 0, 0)])
        positions = self.each(_positions)
        positions = positions[:, None] if positions.ndim == 3 else positions
        placed = g.node("Add", "patches/placed", [room, g.weight("positions", positions)])
        tokens = g.reshape("patches", placed, 0, -1, width)
        return g.layer_norm("ln_pre", tokens, *self.pair("vision_model.ln_pre"))

    def block(self, number: int, x: str, *, class_token_only: bool) -> str:
        """One residual attention block; the last one is computed for the class token only: nothing else is used."""
        g, low, name, key = self.graph, self.low, f"block{number}", f"vision_model.transformer.resblocks.{number}"
        attended = self.attention(f"{name}/attention", key, x, class_token_only=class_token_only)
        if class_token_only:
            x = self.class_token(f"{name}/class_token", x)
        x = g.node("Add", f"{name}/attended", [x, attended])
        hidden = g.layer_norm(f"{name}/ln_2", x, *self.pair(f"{key}.ln_2"))
        hidden = self.linear(f"{name}/mlp_in", low.enter(f"{name}/ln_2", hidden), f"{key}.mlp.c_fc")
        steep = low.node("Mul", f"{name}/gelu_steep", [hidden, low.weight("quick_gelu", np.array(1.702, np.float32))])
        gate = low.node("Sigmoid", f"{name}/gelu_gate", [steep])
        hidden = low.node("Mul", f"{name}/gelu", [hidden, gate])
        hidden = self.linear(f"{name}/mlp_out", hidden, f"{key}.mlp.c_proj")
        return g.node("Add", name, [x, low.leave(f"{name}/mlp_out", hidden)])

    def attention(self, name: str, key: str, x: str, *, class_token_only: bool) -> str:
        """Multi-head self-attention of [F, B * tokens, width]; asks from the class token only where that is enough."""
        g, low, heads, width = self.graph, self.low, self.dim.image.heads, self.dim.image.width
        head = width // heads
        normed = low.enter(f"{name}/ln_1", g.layer_norm(f"{name}/ln_1", x, *self.pair(f"{key}.ln_1")))
        weights = {part: self.pair(f"{key}.attn.{part}_proj") for part in "qkv"}
        # 1/sqrt(64) is a power of two: folding it into q changes no digit.
        scale = np.float32(1 / math.sqrt(head))
        weights["q"] = (weights["q"][0] * scale, weights["q"][1] * scale)
        asked = self.class_token(f"{name}/asked", normed) if class_token_only else normed
        parts = {}
        for part, perm in (("q", [0, 1, 3, 2, 4]), ("k", [0, 1, 3, 4, 2]), ("v", [0, 1, 3, 2, 4])):
            flat = precisions.linear(low, f"{name}/{part}_flat", asked if part == "q" else normed, *weights[part])
            # The fold axis is copied (0): it is 1 as long as nothing has differed between the folds.
            if part == "q" and class_token_only:  # one token needs no turning, which TensorRT fails to compile
                parts[part] = g.reshape(f"{name}/{part}", flat, 0, -1, heads, 1, head)
                continue
            by_head = g.reshape(f"{name}/{part}_heads", flat, 0, -1, self.tokens, heads, head)
            parts[part] = g.node("Transpose", f"{name}/{part}", [by_head], perm=perm)
        scores = low.leave(f"{name}/scores", low.node("MatMul", f"{name}/scores", [parts["q"], parts["k"]]))
        shares = low.enter(f"{name}/shares", g.node("Softmax", f"{name}/shares", [scores], axis=-1))
        mixed = low.node("MatMul", f"{name}/mixed", [shares, parts["v"]])
        if not class_token_only:
            mixed = g.node("Transpose", f"{name}/turned", [mixed], perm=[0, 1, 3, 2, 4])
        flat = g.reshape(f"{name}/flat", mixed, 0, -1, width)
        return low.leave(f"{name}/out", self.linear(f"{name}/out", flat, f"{key}.attn.proj"))

    def class_token(self, name: str, x: str) -> str:
        """[F, B * tokens, width] -> the first token of each image, [F, B, width]."""
        g, width = self.graph, self.dim.image.width
        by_image = g.reshape(f"{name}/by_image", x, 0, -1, self.tokens, width)
        first = g.node("Gather", name, [by_image, g.weight("zero", np.array(0, np.int64))], axis=2)
        return first

    def project(self, x: str) -> str:
        """Class tokens [F, 9N, width] -> [F, 9N, out], after CLIP's projection, a linear layer and ReLU."""
        g = self.graph
        normed = g.layer_norm("ln_post", x, *self.pair("vision_model.ln_post"))
        projection = g.weight("clip_projection", self.each(lambda fold: fold["vision_model.proj"]))
        clip = g.node("MatMul", "clip_embedding", [normed, projection])
        return g.node(
            "Relu",
            "views_embedding",
            [g.linear("projector", clip, *self.head("image_projection.projector.0"))],
        )

    def pool(self, x: str) -> str:
        """Attention pooling over the nine views, then the L2 norm: [F, 9N, out] -> [F, N, 1, out]."""
        g, folds, out = self.graph, len(self.folds), self.dim.out
        hidden = g.linear("pooling_hidden", x, *self.head("image_projection.attention.0"))
        hidden = g.node("Tanh", "pooling_tanh", [hidden])
        scores = g.linear("pooling_scores", hidden, *self.head("image_projection.attention.2"))
        by_view = g.reshape("pooling_by_view", scores, folds, -1, 1, VIEWS)
        shares = g.node("Softmax", "pooling_shares", [by_view], axis=-1)
        by_nodule = g.reshape("views_by_nodule", x, folds, -1, VIEWS, out)
        pooled = g.node("MatMul", "pooled", [shares, by_nodule])  # [F, N, 1, out]
        length = g.node("ReduceL2", "pooled_length", [pooled, g.ints(-1)], keepdims=1)
        floor = g.node("Max", "pooled_length_floor", [length, g.number("tiny", 1e-12)])
        embedding = g.node("Div", "embedding", [pooled, floor])
        self.publish("VIEW_ATTENTION", shares, VIEWS)
        self.publish("EMBEDDING", embedding, out)
        return embedding

    def logits(self, embedding: str) -> None:
        """Malignancy logits of each fold. A product and a sum for each nodule, so that a nodule's digits do not
        depend on how many share its batch, as a matrix product's may."""
        g = self.graph
        weight, bias = self.head("classifier_image")
        products = g.node("Mul", "logits_products", [embedding, g.weight("classifier.weight", weight[:, None])])
        sums = g.node("ReduceSum", "logits_sums", [products, g.ints(-1)], keepdims=0)  # [F, N, 2]
        self.publish("LOGITS", g.node("Add", "logits_by_fold", [sums, g.weight("classifier.bias", bias[:, None])]), 2)

    def publish(self, output: str, x: str, size: int) -> None:
        """[F, N, ..., size] -> output [N, F, size]."""
        g, folds = self.graph, len(self.folds)
        flat = g.reshape(f"{output}/flat", x, folds, -1, size)
        g.node("Transpose", output, [flat], perm=[1, 0, 2])
