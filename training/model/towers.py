"""The towers that a training begins with: CLIP by its name in open_clip, from a file, or from a configuration.

Nothing is downloaded: weights come from a file, from open_clip's cache on this machine, or from chance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP

from noduleserve.errors import TrainingError
from noduleserve.export.checkpoint import read_checkpoint
from noduleserve.export.checkpoint.base import cached_file, check_open_clip_model, read_base, require_quick_gelu
from noduleserve.export.checkpoint.clip_module import drawn_clip, empty_split_clip
from noduleserve.export.checkpoint.clip_names import HEADS, open_clip_name, unpacked
from noduleserve.export.checkpoint.layout import CONTEXT, HEAD_WIDTH, IMAGE_SIZE, Dimensions, Tower
from noduleserve.export.checkpoint.tensors import sha256_of

RECORD = "training.json"  # of a training, beside its checkpoint
VOCABULARY = 49408  # tokens of CLIP's tokenizer, the only one that there is
_TOWER_KEYS = {"width", "layers"}
_VISION_KEYS = {*_TOWER_KEYS, "patch_size", "image_size", "head_width"}
_TEXT_KEYS = {*_TOWER_KEYS, "heads", "context_length", "vocab_size"}


@dataclass(frozen=True, eq=False)
class Towers:
    """CLIP before a training.

    Attributes:
        state: every weight by the published keys, float32.
        dimensions: of the towers, and of the nodule's embedding that the heads will make.
        name: what they are, for the record: a file's name, `open_clip:MODEL/TAG`, or `random`.
        sha256: of the file; None where there was none.
        halves: whether the file holds them in half precision.
        heads: by the published keys with `logit_scale`, where they come from a checkpoint; else they are drawn.
        seen: hashes of the patients whom they were trained on, where their record tells.
        trained: whether they were, by anyone; else they are drawn.
    """

    state: Mapping[str, NDArray[np.float32]]
    dimensions: Dimensions
    name: str
    sha256: str | None = None
    halves: bool = False
    heads: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()
    trained: bool = True


def named_towers(model: str, pretrained: str | None, out: int, seed: int) -> Towers:
    """Towers by their name in open_clip, with its weights of a tag, or drawn where there is no tag.

    Args:
        model: such as `ViT-B-32-quickgelu`.
        pretrained: open_clip's tag of the weights, which must be in its cache on this machine, such as `openai`.
        out: width of the nodule's embedding.
        seed: of the weights, where they are drawn.

    Raises:
        CheckpointError: MODEL_UNKNOWN, GELU_UNSUPPORTED, BASE_NOT_CACHED, CHECKPOINT_*.
        TrainingError: TOWERS_UNSUPPORTED.
    """
    require_quick_gelu(model, pretrained, None)
    if pretrained:
        towers = file_towers(cached_file(model, pretrained), out, name=f"open_clip:{model}/{pretrained}")
        check_open_clip_model(model, towers.dimensions, towers.name)
        return towers
    import open_clip

    return _drawn(_dimensions(open_clip.get_model_config(model) or {}, model, out), seed)


def file_towers(file: Path, out: int, name: str | None = None) -> Towers:
    """Towers from a file of weights, whose shapes tell the sizes; see docs/checkpoint-layouts.md for the formats.

    Raises:
        CheckpointError: CHECKPOINT_*.
        TrainingError: BASE_NOT_FOUND, TOWERS_UNSUPPORTED.
    """
    name = name or file.name
    if not file.is_file():
        raise TrainingError("BASE_NOT_FOUND", f"There is no file {file}.", "Name the file of the base's weights.")
    state, halves = read_base(file, name)
    projection = state.get("vision_model.proj", np.empty((0, 0), np.float32))
    head = {"image_projection.projector.0.weight": np.empty((out, projection.shape[-1]), np.float32)}
    dimensions = Dimensions.of(state | head, name)
    _require_whole(state, dimensions, name)
    return Towers(state, dimensions, name, sha256_of({name: file})[name], halves)


def checkpoint_towers(folder: Path, out: int) -> Towers:
    """Towers and heads of a checkpoint of one fold, LoRA merged: a training that goes on where another ended.

    Raises:
        CheckpointError: what reading it raises.
        TrainingError: BASE_FOLDS where it has several folds, TOWERS_UNSUPPORTED where its embedding is of another
            width.
    """
    checkpoint = read_checkpoint(folder)
    if len(checkpoint.folds) > 1:
        raise TrainingError(
            "BASE_FOLDS",
            f"{folder.name} has {len(checkpoint.folds)} folds; a training begins with one model.",
            "Give a checkpoint of one fold, or a file of weights.",
        )
    if checkpoint.dimensions.out != out:
        raise TrainingError(
            "TOWERS_UNSUPPORTED",
            f"{folder.name} makes embeddings {checkpoint.dimensions.out} wide; the recipe says out = {out}.",
            "Put the recipe right.",
        )
    state = checkpoint.folds[0]
    heads = {key: value for key, value in state.items() if key.startswith((*HEADS, "logit_scale"))}
    towers = {key: value for key, value in state.items() if not key.startswith(HEADS)}
    digest = hashlib.sha256(json.dumps(checkpoint.sha256, sort_keys=True).encode()).hexdigest()
    halves = "base_widened_from" in checkpoint.args and not checkpoint.updates
    return Towers(towers, checkpoint.dimensions, folder.name, digest, halves, heads, _seen(folder))


def configured_towers(file: Path, out: int, seed: int) -> Towers:
    """Towers of an open_clip configuration (JSON), their weights drawn as open_clip draws them.

    Raises:
        TrainingError: TOWERS_CONFIG where it cannot be read or has an unknown key, TOWERS_UNSUPPORTED where it is
            another network than the one that is served.
    """
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise TrainingError("TOWERS_CONFIG", f"{file.name} cannot be read: {error}.") from None
    return _drawn(_dimensions(content, file.name, out), seed)


def clip_of(towers: Towers) -> CLIP:
    """The towers as a module of open_clip with q, k and v apart, its weights a copy of its own.

    Where there is no `logit_scale`, it is 0.
    """
    clip = empty_split_clip(towers.dimensions)
    tensors = {open_clip_name(key): torch.from_numpy(np.array(value)) for key, value in towers.state.items()}
    tensors["logit_scale"] = tensors.get("logit_scale", torch.zeros(())).reshape(())
    clip.load_state_dict(tensors, assign=True)
    return clip


def _seen(folder: Path) -> frozenset[str]:
    """The patients of a checkpoint's record; none where it was not trained here."""
    file = folder / RECORD
    if not file.exists():
        return frozenset()
    try:
        return frozenset(json.loads(file.read_bytes())["seen"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError("RECORD_UNREADABLE", f"{folder.name}/{RECORD} cannot be read: {error}.") from None


def _drawn(dimensions: Dimensions, seed: int) -> Towers:
    """open_clip's own beginning; the random numbers of the caller are left as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = drawn_clip(dimensions)
    state = {key: tensor.numpy() for key, tensor in clip.state_dict().items()}
    return Towers(unpacked(state, "random"), dimensions, "random", trained=False)


def _dimensions(config: Any, where: str, out: int) -> Dimensions:
    """The sizes that an open_clip configuration gives."""
    parts = _parts(config, where)
    vision, text = parts["vision_cfg"], parts["text_cfg"]
    for part, keys in ((vision, _VISION_KEYS), (text, _TEXT_KEYS)):
        _require_keys(part, keys, where)
    numbers = [config["embed_dim"], *vision.values(), *text.values()]
    if not all(type(number) is int and number > 0 for number in numbers):
        raise TrainingError("TOWERS_CONFIG", f"{where}: every size must be a whole number above 0.")
    wide = {"image": vision["width"], "text": text["width"]}
    fits = {
        "vision_cfg.image_size": (vision["image_size"], IMAGE_SIZE),
        "vision_cfg.head_width": (vision.get("head_width", HEAD_WIDTH), HEAD_WIDTH),
        "text_cfg.heads": (text["heads"] * HEAD_WIDTH, text["width"]),
        "text_cfg.context_length": (text.get("context_length", CONTEXT), CONTEXT),
        "text_cfg.vocab_size": (text.get("vocab_size", VOCABULARY), VOCABULARY),
        "quick_gelu": (config.get("quick_gelu", False), True),
    }
    wrong = [key for key, (own, needed) in fits.items() if own != needed]
    wrong += [f"{tower} width" for tower, width in wide.items() if width % HEAD_WIDTH]
    wrong += ["vision_cfg.patch_size"] if IMAGE_SIZE % vision["patch_size"] else []
    if wrong:
        raise TrainingError(
            "TOWERS_UNSUPPORTED",
            f"{where}: {', '.join(wrong)} cannot be what it says.",
            f"What is served is a CLIP ViT with QuickGELU, heads {HEAD_WIDTH} wide in both towers, pictures of "
            f"{IMAGE_SIZE} pixels that the patch divides, and {CONTEXT} tokens of {VOCABULARY}.",
        )
    return Dimensions(
        Tower(vision["width"], vision["layers"]),
        Tower(text["width"], text["layers"]),
        vision["patch_size"],
        VOCABULARY,
        config["embed_dim"],
        out,
    )


def _parts(config: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(config, dict):
        raise TrainingError("TOWERS_CONFIG", f"{where} is not an object.")
    if strange := sorted(config.keys() - {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}):
        raise TrainingError("TOWERS_CONFIG", f"{where} has the unknown {', '.join(strange)}.")
    parts = {name: config.get(name) for name in ("vision_cfg", "text_cfg")}
    if "embed_dim" not in config or not all(isinstance(part, dict) for part in parts.values()):
        raise TrainingError("TOWERS_CONFIG", f"{where} lacks embed_dim, vision_cfg or text_cfg.")
    return {name: part for name, part in parts.items() if part is not None}


def _require_keys(part: dict[str, Any], known: set[str], where: str) -> None:
    """Another key may stand for another network, so it is refused."""
    if strange := sorted(part.keys() - known):
        raise TrainingError(
            "TOWERS_UNSUPPORTED", f"{where} has the unknown {', '.join(strange)}.", f"Known are {sorted(known)}."
        )
    if missing := sorted(known - {"head_width", "context_length", "vocab_size"} - part.keys()):
        raise TrainingError("TOWERS_CONFIG", f"{where} lacks {', '.join(missing)}.")


def _require_whole(state: Mapping[str, NDArray], dimensions: Dimensions, name: str) -> None:
    """Refuse weights with a key too few or too many, or of another shape than the sizes ask for."""
    own = ("logit_scale", *HEADS)  # a base may have no temperature: a training begins with one of its own
    wanted = {key: shape for key, shape in dimensions.shapes({}).items() if not key.startswith(own)}
    found = {key: value.shape for key, value in state.items() if not key.startswith(own)}
    if wrong := sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)):
        raise TrainingError(
            "TOWERS_UNSUPPORTED",
            f"{name} is not a whole CLIP ViT: {wrong[0]} is missing, strange or of another shape ({len(wrong)} such).",
        )
