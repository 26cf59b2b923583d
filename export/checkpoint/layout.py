"""The published checkpoint layout as a table: every key a fold must have, and its shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import CheckpointError

IMAGE_SIZE, CHANNELS, CONTEXT = 224, 3, 77
HEAD_WIDTH = 64  # CLIP: every attention head is 64 wide
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
        image = Tower(image_width, _layers(state, "vision_model.transformer"))
        text = Tower(text_width, _layers(state, "transformer"))
        for name, tower in (("vision_model.transformer", image), ("transformer", text)):
            if not tower.layers:
                raise CheckpointError(
                    "CHECKPOINT_KEYS",
                    f"{where} has no {name}.resblocks.",
                    "Is it a checkpoint of this method, and whole?",
                )
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
        table |= _blocks("vision_model.transformer", self.image) | _blocks("transformer", self.text)
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


def check_state(state: Mapping[str, NDArray], dimensions: Dimensions, rank: int, where: str) -> None:
    """Refuse a fold with a key too few, a key too many, a wrong shape or a number that is not finite.

    Raises:
        CheckpointError: CHECKPOINT_KEYS, CHECKPOINT_SHAPES, CHECKPOINT_NOT_FINITE.
    """
    plain = dimensions.shapes({})
    lora = {k.removesuffix(".w_lora_A"): rank for k in state if k.endswith(".w_lora_A")}
    strange = {layer for layer in lora if len(plain.get(f"{layer}.weight", ())) != 2}  # of no layer, or of no matrix
    table = dimensions.shapes({layer: r for layer, r in lora.items() if layer not in strange})
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
        if not np.isfinite(state[key]).all():
            raise CheckpointError(
                "CHECKPOINT_NOT_FINITE", f"{where}: {key} holds NaN or infinity.", "Train this fold again."
            )


def _layers(state: Mapping[str, NDArray], prefix: str) -> int:
    head = f"{prefix}.resblocks."
    return len({key.removeprefix(head).split(".")[0] for key in state if key.startswith(head)})


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
