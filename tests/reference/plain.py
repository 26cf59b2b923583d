"""The plain, slow, obviously-correct way from a CT volume to a score: what the product is compared with.

Nothing here shares code with the product. Everything is written for reading: whole cubes are rotated although
only planes are needed, every view is blown up to three equal channels of 224 x 224, every fold runs by
itself, and the towers are spelt out in elementary tensor operations straight from a state dict of the
published layout.

Axis orders: volumes and cubes are arrays [z, y, x]; an affine takes a voxel index (x, y, z, 1) to patient LPS
mm; points are (x, y, z). Geometry is computed in float64; the towers run in the dtype of their state dict
(float32).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]
State = Mapping[str, torch.Tensor]

HALF_CUBE = 50  # lattice points, so mm, from the cube's first voxel to its centre voxel
FIRST_ROW, LAST_ROW = 25, 75  # the central part of a 100 x 100 plane that is a view
WINDOW_LOW, WINDOW_HIGH = -1000.0, 500.0  # HU
PIXELS = 224  # rows and columns that the image tower reads
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HEAD_WIDTH = 64  # channels of one attention head in every CLIP tower
LAYER_NORM_EPSILON = 1e-5
LARGEST_LOGIT_SCALE = 4.6052
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


# ---------------------------------------------------------------- 1. the lattice and the cube


def stored_affine(affine_lps: Array) -> Array:
    """The affine [4, 4] with its numbers rounded to float32, as float64.

    The expected numbers come from volumes whose affine went through float32, as a NIfTI header stores it.
    That moves a voxel by some 1e-5 mm, which shows as up to 0.01 HU at an edge. All arithmetic after it is
    float64.
    """
    return np.asarray(affine_lps, float).astype(np.float32).astype(float)


def lattice_of(shape_zyx: Sequence[int], affine_lps: Array) -> tuple[Array, Array]:
    """The volume's 1-mm lattice: (LPS mm of its point (0, 0, 0), number of points), both along x, y, z.

    It starts, in RAS mm, at the least corner voxel centre of each axis. Stored in L, P, S order, its index
    runs from the high RAS end down on x and y; that end is a whole number of mm from the start, so in general
    not a corner.
    """
    nz, ny, nx = shape_zyx
    corners = [(x, y, z, 1) for x in (0, nx - 1) for y in (0, ny - 1) for z in (0, nz - 1)]
    corners_ras = (np.array(corners, float) @ (LPS_TO_RAS @ stored_affine(affine_lps)).T)[:, :3]
    low, high = corners_ras.min(axis=0), corners_ras.max(axis=0)
    points = np.round(high - low + 1).astype(int)
    origin_lps = np.array([-(low[0] + points[0] - 1), -(low[1] + points[1] - 1), low[2]])
    return origin_lps, points


def center_index_of(
    shape_zyx: Sequence[int], affine_lps: Array, center_lps: Sequence[float] | Array
) -> tuple[int, int, int]:
    """Lattice index (x, y, z) of a point in LPS mm: its lattice coordinate truncated toward zero."""
    origin, _ = lattice_of(shape_zyx, affine_lps)
    x, y, z = (int(coordinate) for coordinate in np.asarray(center_lps, float) - origin)
    return x, y, z


def sample(volume_zyx_hu: Array, affine_lps: Array, points_lps: Array) -> Array:
    """HU at points [..., 3] (x, y, z in LPS mm): trilinear, the volume surrounded by voxels of 0 HU."""
    to_voxel = np.linalg.inv(stored_affine(affine_lps))
    voxel_xyz = points_lps @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    coordinates = np.moveaxis(voxel_xyz[..., ::-1], -1, 0)
    return ndimage.map_coordinates(
        volume_zyx_hu, coordinates, output=np.float64, order=1, mode="grid-constant", cval=0.0
    )


def cube_of(volume_zyx_hu: Array, affine_lps: Array, center_lps: Sequence[float] | Array) -> Array:
    """The cube of 100 mm about a nodule: float64 [100, 100, 100] (z, y, x) in HU, a value each lattice point.

    Voxel (50, 50, 50) is the lattice point of the centre. Voxels beyond the lattice are 0, even where the
    volume itself would still have a value there.
    """
    origin, points = lattice_of(volume_zyx_hu.shape, affine_lps)
    center = center_index_of(volume_zyx_hu.shape, affine_lps, center_lps)
    index = [np.arange(c - HALF_CUBE, c + HALF_CUBE) for c in center]  # along x, y, z
    z, y, x = np.meshgrid(index[2], index[1], index[0], indexing="ij")
    lattice_xyz = np.stack([x, y, z], axis=-1)
    cube = sample(volume_zyx_hu, affine_lps, lattice_xyz + origin)
    inside = ((lattice_xyz >= 0) & (lattice_xyz < points)).all(axis=-1)
    return np.where(inside, cube, 0.0)


def resample_whole(volume_zyx_hu: Array, affine_lps: Array) -> Array:
    """The whole lattice of a volume, float32 [z, y, x] in HU; `crop_lattice` cuts a cube out of it.

    Plane by plane, since the coordinates of all its points at once would fill gigabytes.
    """
    origin, points = lattice_of(volume_zyx_hu.shape, affine_lps)
    y, x = np.meshgrid(np.arange(points[1]), np.arange(points[0]), indexing="ij")
    lattice = np.empty(points[::-1], np.float32)
    for z in range(points[2]):
        plane_xyz = np.stack([x, y, np.full_like(x, z)], axis=-1)
        lattice[z] = sample(volume_zyx_hu, affine_lps, plane_xyz + origin)
    return lattice


def crop_lattice(lattice_zyx: Array, center_xyz: Sequence[int]) -> Array:
    """The [100, 100, 100] cube (z, y, x) about a lattice index (x, y, z), zero beyond the lattice."""
    margin = 2 * HALF_CUBE
    padded = np.pad(lattice_zyx, margin)
    x, y, z = (c + margin for c in center_xyz)
    return padded[z - HALF_CUBE : z + HALF_CUBE, y - HALF_CUBE : y + HALF_CUBE, x - HALF_CUBE : x + HALF_CUBE]


# ---------------------------------------------------------------- 2, 3, 4. window, nine views, pixels


def window(hu: Array) -> Array:
    """HU clipped to the window and brought to 0..1."""
    return (np.clip(hu, WINDOW_LOW, WINDOW_HIGH) - WINDOW_LOW) / (WINDOW_HIGH - WINDOW_LOW)


def views_of(cube_hu: Array) -> Array:
    """Nine windowed views [9, 50, 50] of a cube [100, 100, 100] (z, y, x) in HU.

    The turned ones go a little beyond 0..1, since a cubic spline overshoots.
    """
    c = window(cube_hu)
    m = HALF_CUBE
    r02, r01, r12 = (ndimage.rotate(c, 45, axes=axes, reshape=False) for axes in ((0, 2), (0, 1), (1, 2)))
    planes = [
        c[m, :, :], c[:, m, :], c[:, :, m],
        r02[m, :, :], r02[:, :, m],
        r01[m, :, :], r01[:, m, :],
        r12[:, m, :], r12[:, :, m],
    ]  # fmt: skip
    return np.stack([plane[FIRST_ROW:LAST_ROW, FIRST_ROW:LAST_ROW] for plane in planes])


def pixels_of(views: Array) -> Array:
    """What the image tower reads: views [9, 50, 50] -> [9, 3, 224, 224], normalised as CLIP's are."""
    large = np.stack([ndimage.zoom(view, PIXELS / view.shape[0], order=1) for view in views])
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (large[:, None] - mean) / std


# ---------------------------------------------------------------- 5, 6. the two towers


def part(state: State, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors below a prefix, the prefix taken off."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def linear(x: torch.Tensor, state: State, name: str) -> torch.Tensor:
    """A linear layer: x W^T + bias over the last axis."""
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def layer_norm(x: torch.Tensor, state: State, name: str) -> torch.Tensor:
    """Layer norm over the last axis (the biased variance)."""
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    normal = centred / torch.sqrt(variance + LAYER_NORM_EPSILON)
    return normal * state[f"{name}.weight"] + state[f"{name}.bias"]


def l2_normal(x: torch.Tensor) -> torch.Tensor:
    """Vectors of the last axis, brought to length 1."""
    return x / x.norm(dim=-1, keepdim=True)


def self_attention(x: torch.Tensor, block: State, *, causal: bool) -> torch.Tensor:
    """Multi-head self-attention, q, k and v apart: [batch, tokens, width] -> the same."""
    batch, tokens, width = x.shape
    heads = width // HEAD_WIDTH

    def by_head(name: str) -> torch.Tensor:
        return linear(x, block, f"attn.{name}").reshape(batch, tokens, heads, HEAD_WIDTH).transpose(1, 2)

    scores = by_head("q_proj") @ by_head("k_proj").transpose(2, 3) / math.sqrt(HEAD_WIDTH)
    if causal:
        later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    mixed = scores.softmax(-1) @ by_head("v_proj")
    return linear(mixed.transpose(1, 2).reshape(batch, tokens, width), block, "attn.proj")


def transformer(x: torch.Tensor, state: State, *, causal: bool) -> torch.Tensor:
    """All residual attention blocks below `state`, in order; [batch, tokens, width] -> the same."""
    layers = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("resblocks."))
    for layer in range(layers):
        block = part(state, f"resblocks.{layer}.")
        x = x + self_attention(layer_norm(x, block, "ln_1"), block, causal=causal)
        hidden = linear(layer_norm(x, block, "ln_2"), block, "mlp.c_fc")
        hidden = hidden * torch.sigmoid(1.702 * hidden)  # QuickGELU, as OpenAI trained it
        x = x + linear(hidden, block, "mlp.c_proj")
    return x


@torch.no_grad()
def image_forward(state: State, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One nodule through one fold: pixels [9, 3, 224, 224] -> embedding [256], attention [9], logits [2].

    Whatever `weight` holds is used as it is: w_lora_A and w_lora_B are not looked at.
    """
    tower = part(state, "vision_model.")
    kernel = tower["conv1.weight"]  # [width, 3, patch, patch], stride = patch: one product a patch
    width, channels, patch, _ = kernel.shape
    side = pixels.shape[-1] // patch
    patches = pixels.reshape(-1, channels, side, patch, side, patch).permute(0, 2, 4, 1, 3, 5)
    x = patches.reshape(-1, side * side, channels * patch * patch) @ kernel.reshape(width, -1).T
    x = torch.cat([tower["class_embedding"].expand(len(x), 1, width), x], dim=1)
    x = x + tower["positional_embedding"]
    x = transformer(layer_norm(x, tower, "ln_pre"), part(tower, "transformer."), causal=False)
    features = layer_norm(x[:, 0], tower, "ln_post") @ tower["proj"]  # [9, 512]

    head = part(state, "image_projection.")
    projected = torch.relu(linear(features, head, "projector.0"))  # [9, 256]
    hidden = torch.tanh(linear(projected, head, "attention.0"))
    attention = linear(hidden, head, "attention.2")[:, 0].softmax(0)
    embedding = l2_normal(attention @ projected)
    return embedding, attention, linear(embedding, state, "classifier_image")


@torch.no_grad()
def text_forward(state: State, tokens: torch.Tensor) -> torch.Tensor:
    """Prompts through one fold: token numbers [prompts, 77] -> L2-normalised embeddings [prompts, 256]."""
    x = state["token_embedding.weight"][tokens] + state["positional_embedding"]
    x = transformer(x, part(state, "transformer."), causal=True)
    x = layer_norm(x, state, "ln_final")
    end = tokens.argmax(dim=1)  # the end-of-text token has the highest number of all
    features = x[torch.arange(len(x)), end] @ state["text_projection"]  # [prompts, 512]

    head = part(state, "semantic_projection.")
    p = linear(features, head, "projection")
    gelu = p * 0.5 * (1 + torch.erf(p / math.sqrt(2)))
    return l2_normal(layer_norm(p + linear(gelu, head, "fc"), head, "layer_norm"))


def tokens_of(prompts: Sequence[str]) -> torch.Tensor:
    """Token numbers [prompts, 77]: start of text, the prompt in lower case, end of text, zeros."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=77)(list(prompts))


def similarity_of(state: State, embedding: torch.Tensor, text_embedding: torch.Tensor) -> torch.Tensor:
    """exp(min(logit scale, 4.6052)) * cosine of embeddings [..., 256], texts [P, 256] -> [..., P]."""
    scale = state["logit_scale"].clamp(max=LARGEST_LOGIT_SCALE).exp()
    return scale * (embedding @ text_embedding.T)


def semantic_probabilities(similarity: Array, groups: Sequence[Sequence[int]]) -> list[Array]:
    """Probability of each value of each feature, [nodules, values] a group of prompts.

    `similarity` is [folds, nodules, prompts], a group the numbers of its prompts. Softmax within the group
    and fold by fold, then the mean over the folds.
    """
    out = []
    for group in groups:
        logits = np.asarray(similarity, float)[:, :, list(group)]
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        out.append((weights / weights.sum(axis=-1, keepdims=True)).mean(axis=0))
    return out


# ---------------------------------------------------------------- 7, 8. LoRA, calibration


def add_lora(state: State, scaling: float) -> dict[str, torch.Tensor]:
    """`state` with weight + scaling * B @ A for every weight that has A [r, in], B [out, r] beside it."""
    out = dict(state)
    for key in state:
        if key.endswith(".w_lora_A"):
            name = key.removesuffix(".w_lora_A")
            change = scaling * (state[f"{name}.w_lora_B"] @ state[key])
            out[f"{name}.weight"] = state[f"{name}.weight"] + change
    return out


def beta_calibrated(p: Array, a: float, b: float, c: float) -> Array:
    """Beta calibration: sigmoid(a ln p - b ln(1 - p) + c).

    p stays a float32 epsilon off 0 and 1, where the logarithms end; that is what calibrating float32 numbers
    does.
    """
    epsilon = float(np.finfo(np.float32).eps)
    p = np.clip(np.asarray(p, float), epsilon, 1 - epsilon)
    return 1 / (1 + np.exp(-(a * np.log(p) - b * np.log(1 - p) + c)))


# ---------------------------------------------------------------- the whole way


def score(
    nodules: Sequence[tuple[Array, Array, Sequence[float] | Array]],
    states: Sequence[State],
    prompts: Sequence[str] = (),
    calibrations: Sequence[Mapping[str, float]] | None = None,
) -> dict[str, Array]:
    """The whole way for nodules (volume [z, y, x] in HU, affine to LPS, centre in LPS mm).

    Returns, for n nodules, F folds and P prompts: prob [F, n], embedding [F, n, 256] and view_attention
    [F, n, 9]; with prompts text_embedding [F, P, 256] and similarity [F, n, P]; with calibrations (a fold
    {"a", "b", "c"}) calibrated [F, n]. The ensemble is the mean of prob or calibrated over the folds.
    """
    views = [views_of(cube_of(volume, affine, center)) for volume, affine, center in nodules]
    return score_views(views, states, prompts, calibrations)


def score_views(
    views: Sequence[Array] | Array,
    states: Sequence[State],
    prompts: Sequence[str] = (),
    calibrations: Sequence[Mapping[str, float]] | None = None,
) -> dict[str, Array]:
    """`score` from the nodules' views [9, 50, 50] on."""
    dtype = states[0]["classifier_image.weight"].dtype
    pixels = [torch.from_numpy(pixels_of(v)).to(dtype) for v in views]
    runs = [[image_forward(state, p) for p in pixels] for state in states]  # [fold][nodule]

    def stacked(output: int) -> torch.Tensor:
        return torch.stack([torch.stack([nodule[output] for nodule in run]) for run in runs])

    embedding, attention, logits = stacked(0), stacked(1), stacked(2)
    out = {
        "prob": logits.softmax(-1)[..., 1].numpy(),
        "embedding": embedding.numpy(),
        "view_attention": attention.numpy(),
    }
    if prompts:
        tokens = tokens_of(prompts)
        text = [text_forward(state, tokens) for state in states]
        pairs = zip(states, embedding, text, strict=True)
        out["text_embedding"] = torch.stack(text).numpy()
        out["similarity"] = torch.stack([similarity_of(state, e, t) for state, e, t in pairs]).numpy()
    if calibrations is not None:
        folds = zip(out["prob"], calibrations, strict=True)
        out["calibrated"] = np.stack([beta_calibrated(p, k["a"], k["b"], k["c"]) for p, k in folds])
    return out
