"""The published checkpoint layout as a table: every key a fold must have, and its shape.

Every other layout is read into these keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import CheckpointError

IMAGE_SIZE, CHANNELS, CONTEXT = 224, 3, 77
HEAD_WIDTH = 64  # CLIP: every attention head is 64 wide
IMAGE_BLOCKS, TEXT_BLOCKS = "vision_model.transformer", "transformer"
# What the text bank needs: the text tower and its head.
_TEXT = (
    *("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection"),
    *("semantic_projection.", "logit_scale"),
)
# Buffers of losses, which training leaves in the file; they have no part in a score.
LEFT_BY_TRAINING = ("pred_criterion_train.weight", "pred_criterion_val.weight", "pred_criterion.weight")


@dataclass(frozen=True)
class Tower:
    """One transformer of CLIP: `layers` blocks of width `width`."""

    width: int
    layers: int

    @property
    def heads(self) -> int:
        """Attention heads, each 64 wide."""
        return self.width // HEAD_WIDTH


@dataclass(frozen=True)
class Dimensions:
    """Everything about a model's size that its weights' shapes tell."""

    image: Tower
    text: Tower
    patch: int
    vocabulary: int
    embed: int  # CLIP's joint space
    out: int  # the nodule's embedding

    @property
    def grid(self) -> int:
        """Patches along a side of the image."""
        return IMAGE_SIZE // self.patch

    @classmethod
    def of(cls, state: Mapping[str, NDArray], where: str) -> Dimensions:
        """Read the sizes off a state.

        Raises:
            CheckpointError: CHECKPOINT_KEYS, CHECKPOINT_SHAPES.
        """
        try:
            image_width, _, patch, _ = state["vision_model.conv1.weight"].shape
            vocabulary, text_width = state["token_embedding.weight"].shape
            out, embed = state["image_projection.projector.0.weight"].shape
        except KeyError as error:
            raise CheckpointError(
                "CHECKPOINT_KEYS", f"{where} has no {error}.", "Is it a checkpoint of this method, and whole?"
            ) from None
        except ValueError:
            raise CheckpointError("CHECKPOINT_SHAPES", f"{where}: a weight has the wrong number of axes.") from None
        image = Tower(image_width, _layers(state, IMAGE_BLOCKS, where))
        text = Tower(text_width, _layers(state, TEXT_BLOCKS, where))
        if image_width % HEAD_WIDTH or text_width % HEAD_WIDTH or not patch or IMAGE_SIZE % patch:
            raise CheckpointError(
                "CHECKPOINT_SHAPES",
                f"{where}: towers {image_width} and {text_width} wide with patches of {patch} are not a CLIP ViT's.",
                "Widths must be multiples of 64, and the patch must divide 224.",
            )
        return cls(image, text, patch, vocabulary, embed, out)

    def shapes(self, lora_layers: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Every key of a fold and its shape; `lora_layers` gives the rank of each layer that carries an update."""
        v, t, out, embed = self.image.width, self.text.width, self.out, self.embed
        table: dict[str, tuple[int, ...]] = {
            "positional_embedding": (CONTEXT, t),
            "token_embedding.weight": (self.vocabulary, t),
            "text_projection": (t, embed),
            "logit_scale": (),
            "vision_model.class_embedding": (v,),
            "vision_model.positional_embedding": (self.grid**2 + 1, v),
            "vision_model.proj": (v, embed),
            "vision_model.conv1.weight": (v, CHANNELS, self.patch, self.patch),
        }
        table |= _norm("ln_final", t) | _norm("vision_model.ln_pre", v) | _norm("vision_model.ln_post", v)
        table |= _blocks(IMAGE_BLOCKS, self.image) | _blocks(TEXT_BLOCKS, self.text)
        table |= _linear("image_projection.projector.0", out, embed)
        table |= _linear("image_projection.attention.0", out // 2, out)
        table |= _linear("image_projection.attention.2", 1, out // 2)
        table |= _linear("semantic_projection.projection", out, embed)
        table |= _linear("semantic_projection.fc", out, out)
        table |= _norm("semantic_projection.layer_norm", out)
        table |= _linear("classifier_image", 2, out) | _linear("classifier_text", 2, out)
        for layer, rank in lora_layers.items():
            rows, columns = table[f"{layer}.weight"]
            table |= {f"{layer}.w_lora_A": (rank, columns), f"{layer}.w_lora_B": (rows, rank)}
        return table


# The models of OpenAI that checkpoints name, e.g. model='openai_ViT-B/32'; `out` is the method's own.
KNOWN = {
    "ViT-B/32": Dimensions(Tower(768, 12), Tower(512, 12), 32, 49408, 512, 256),
    "ViT-B/16": Dimensions(Tower(768, 12), Tower(512, 12), 16, 49408, 512, 256),
    "ViT-L/14": Dimensions(Tower(1024, 24), Tower(768, 12), 14, 49408, 768, 256),
}


def check_model(dimensions: Dimensions, args: Mapping[str, Any], where: str) -> None:
    """Refuse towers that are not those of the model that the training names.

    A last block that no fold has would otherwise show nowhere. Depth and patch are compared where the width is the
    named model's; towers of another width are a smaller model of the same family.

    Raises:
        CheckpointError: CHECKPOINT_MODEL.
    """
    name = str(args.get("model", "")).removeprefix("openai_")
    if (known := KNOWN.get(name)) is None:
        return
    found = {}
    for tower in ("image", "text"):
        own, named = getattr(dimensions, tower), getattr(known, tower)
        if own.width == named.width:
            found[f"blocks of the {tower} tower"] = own.layers, named.layers
    if dimensions.image.width == known.image.width:
        found["pixels a patch"] = dimensions.patch, known.patch
    for what, (own, named) in found.items():
        if own != named:
            raise CheckpointError(
                "CHECKPOINT_MODEL",
                f"{where} has {own} {what}, but {args['model']}, which the checkpoint names, has {named}.",
                "The files lack something, or are of another model.",
            )


def is_text(key: str) -> bool:
    """Whether the text bank needs a key, or the layer of that name."""
    return key.startswith(_TEXT)


def weights_of(state: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """The tensors of a file that a score depends on, with A and B of LoRA; `logit_scale` without axes."""
    weights = {key: value for key, value in state.items() if key not in LEFT_BY_TRAINING}
    if weights.get("logit_scale", np.empty(())).shape == (1,):  # files hold it with one axis or with none
        weights["logit_scale"] = weights["logit_scale"].reshape(())
    return weights


def check_state(
    state: Mapping[str, NDArray],
    dimensions: Dimensions,
    rank: int | None,
    where: str,
    *,
    like: Mapping[str, NDArray] | None = None,
    text_only: bool = False,
) -> None:
    """Refuse a fold with a key too few, a key too many, a wrong shape or a number that is not finite.

    Args:
        state: of `weights_of`.
        dimensions: of the first fold.
        rank: of every LoRA update; None where each layer may have its own.
        where: names the file.
        like: a fold checked before; arrays shared with it are not looked at again.
        text_only: look at the numbers of the text part only; keys and shapes are always looked at.

    Raises:
        CheckpointError: CHECKPOINT_KEYS, CHECKPOINT_SHAPES, CHECKPOINT_NOT_FINITE.
    """
    table = _table(state, dimensions, rank)
    missing, unknown = sorted(set(table) - set(state)), sorted(set(state) - set(table))
    if missing or unknown:
        parts = [
            f"{name} {', '.join(keys[:4])}{' ...' if len(keys) > 4 else ''} ({len(keys)})"
            for name, keys in (("lacks", missing), ("has the unknown", unknown))
            if keys
        ]
        raise CheckpointError(
            "CHECKPOINT_KEYS",
            f"{where} {' and '.join(parts)}.",
            "A file with other keys was written by other code; scores from it would be guesses.",
        )
    for key, shape in table.items():
        if state[key].shape != shape:
            raise CheckpointError(
                "CHECKPOINT_SHAPES",
                f"{where}: {key} has the shape {list(state[key].shape)}, not {list(shape)}.",
                "All folds must be of one model and of the rank that args.txt names.",
            )
        known = like is not None and like.get(key) is state[key]
        if not known and (is_text(key) or not text_only) and not np.isfinite(state[key]).all():
            raise CheckpointError(
                "CHECKPOINT_NOT_FINITE", f"{where}: {key} holds NaN or infinity.", "Train this fold again."
            )


def _table(state: Mapping[str, NDArray], dimensions: Dimensions, rank: int | None) -> dict[str, tuple[int, ...]]:
    """The shapes that a state must have, with LoRA where the state has it on a matrix of the model."""
    plain = dimensions.shapes({})
    ranks: dict[str, int] = {}
    for key, value in state.items():
        layer = key.removesuffix(".w_lora_A")
        if layer != key and len(plain.get(f"{layer}.weight", ())) == 2:
            ranks[layer] = rank or (value.shape[0] if value.ndim else 0)
    return dimensions.shapes(ranks)


def _layers(state: Mapping[str, NDArray], blocks: str, where: str) -> int:
    """Number of blocks, which must be numbered 0, 1, ... without a gap."""
    head = f"{blocks}.resblocks."
    numbers = {key.removeprefix(head).split(".")[0] for key in state if key.startswith(head)}
    missing = sorted({str(n) for n in range(len(numbers))} - numbers, key=int)
    if missing or not numbers:
        raise CheckpointError(
            "CHECKPOINT_KEYS",
            f"{where} has no {head}{missing[0] if missing else '0'}.",
            "Is it a checkpoint of this method, and whole?",
        )
    return len(numbers)


def _linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _blocks(prefix: str, tower: Tower) -> dict[str, tuple[int, ...]]:
    w = tower.width
    table: dict[str, tuple[int, ...]] = {}
    for number in range(tower.layers):
        block = f"{prefix}.resblocks.{number}"
        for name in ("q_proj", "k_proj", "v_proj", "proj"):
            table |= _linear(f"{block}.attn.{name}", w, w)
        table |= _linear(f"{block}.mlp.c_fc", 4 * w, w) | _linear(f"{block}.mlp.c_proj", w, 4 * w)
        table |= _norm(f"{block}.ln_1", w) | _norm(f"{block}.ln_2", w)
    return table
