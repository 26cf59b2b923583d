"""The weights before fine-tuning: a file, or what open_clip has downloaded before. Nothing is downloaded here."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from noduleserve.errors import CheckpointError

from . import openai_archive
from .clip_names import unpacked
from .layout import CONTEXT, HEAD_WIDTH, IMAGE_SIZE, Dimensions, Tower
from .tensors import Tensors, float32_state, read_pickled, read_safetensors, unreadable
from .weights import State

# What OpenAI's and open_clip's files hold beside weights.
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")


def read_base(file: Path, where: str) -> tuple[State, bool]:
    """The towers by the published keys, and whether they were stored in half precision.

    float16 and bfloat16 are widened to float32, which is exact.

    Args:
        file: .safetensors, a file of `torch.save` or a TorchScript archive, with OpenAI's or open_clip's names.
        where: names the file.

    Raises:
        CheckpointError: CHECKPOINT_UNREADABLE, CHECKPOINT_UNSAFE, CHECKPOINT_KEYS, CHECKPOINT_DTYPE, CHECKPOINT_SHAPES.
    """
    tensors = {key: tensor for key, tensor in _open(file, where).items() if key.rpartition(".")[2] not in _NO_WEIGHTS}
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise CheckpointError("CHECKPOINT_KEYS", f"{where} holds something else than the weights of one model.")
    halves = [k for k, tensor in tensors.items() if tensor.dtype in (torch.float16, torch.bfloat16)]
    tensors |= {key: tensors[key].float() for key in halves}
    return unpacked(float32_state(tensors, where), where), bool(halves)


def require_quick_gelu(name: str, pretrained: str | None, base: str | None) -> None:
    """Refuse a base that was not trained with QuickGELU, the activation of the method and of the encoder's graph.

    Raises:
        CheckpointError: MODEL_UNKNOWN, GELU_UNSUPPORTED.
    """
    import open_clip

    config = _config(name)
    tag = open_clip.get_pretrained_cfg(name, pretrained) if pretrained and not base else {}
    if not config.get("quick_gelu", False) and not tag.get("quick_gelu", False):
        raise CheckpointError(
            "GELU_UNSUPPORTED",
            f"{name}{f' with the weights {pretrained}' if pretrained else ''} computes with GELU; the method, and the "
            "encoder that an export writes, compute with QuickGELU, as OpenAI's CLIP does.",
            f"If the weights are OpenAI's, name {name}-quickgelu; else fine-tune from OpenAI's.",
        )


def check_open_clip_model(name: str, dimensions: Dimensions, where: str) -> None:
    """Refuse towers that are not those of the open_clip model that model.json names.

    Raises:
        CheckpointError: MODEL_UNKNOWN, CHECKPOINT_MODEL.
    """
    config = _config(name)
    image, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    plain = "timm_model_name" not in image and "hf_model_name" not in text and isinstance(image.get("layers"), int)
    fits = plain and (
        Tower(image["width"], image["layers"]) == dimensions.image
        and Tower(text["width"], text["layers"]) == dimensions.text
        and (image["patch_size"], config["embed_dim"]) == (dimensions.patch, dimensions.embed)
        and (image.get("head_width", 64), image["image_size"]) == (HEAD_WIDTH, IMAGE_SIZE)
        and (text["context_length"], text["vocab_size"]) == (CONTEXT, dimensions.vocabulary)
    )
    if not fits:
        raise CheckpointError(
            "CHECKPOINT_MODEL",
            f"{where} has not the towers of {name}, which model.json names.",
            "Put open_clip in model.json right; a CLIP ViT with heads 64 wide and pictures of 224 pixels is needed.",
        )


def cached_file(name: str, pretrained: str) -> Path:
    """Where open_clip has kept the weights that it downloaded.

    Raises:
        CheckpointError: MODEL_UNKNOWN, BASE_NOT_CACHED.
    """
    import open_clip

    _config(name)
    tag: dict[str, Any] = open_clip.get_pretrained_cfg(name, pretrained)
    if not tag:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise CheckpointError(
            "MODEL_UNKNOWN", f"open_clip has no weights {pretrained!r} of {name}.", f"It has: {known}."
        )
    for file in _candidates(tag):
        if file.is_file():
            return file
    raise CheckpointError(
        "BASE_NOT_CACHED",
        f"The weights {pretrained} of {name} are not in open_clip's cache on this machine, and an export downloads "
        "nothing.",
        f"Fetch them once with `python -c \"import open_clip; open_clip.create_model('{name}', "
        f"pretrained='{pretrained}')\"`, or put the weights beside model.json and name the file as its base.",
    )


def _candidates(tag: dict[str, Any]) -> list[Path]:
    from huggingface_hub import try_to_load_from_cache
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    files = [Path(tag["file"])] if "file" in tag else []
    if hub := tag.get("hf_hub"):
        repository, name = os.path.split(hub)
        for candidate in [name] if name else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]:
            found = try_to_load_from_cache(repository, candidate)
            files += [Path(found)] if isinstance(found, str) else []
    if url := tag.get("url"):
        files.append(Path("~/.cache/clip").expanduser() / Path(url).name)
    return files


def _config(name: str) -> dict[str, Any]:
    import open_clip

    if (config := open_clip.get_model_config(name)) is None:
        raise CheckpointError(
            "MODEL_UNKNOWN", f"open_clip knows no model {name}.", "See `open_clip.list_models()` for the names."
        )
    return config


def _open(file: Path, where: str) -> Tensors:
    if file.suffix == ".safetensors":
        return read_safetensors(file, where)
    try:
        if openai_archive.is_archive(file):
            return openai_archive.read_archive(file)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "CHECKPOINT_UNSAFE",
            f"{where} holds more than tensors, and opening it could run code: {str(error)[:200]}.",
            "Save its weights as .safetensors where you trust it.",
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise unreadable(where, error) from None
    content = read_pickled(file, where)
    for wrapper in ("state_dict", "model"):
        content = content.get(wrapper, content) if isinstance(content, dict) else content
    if not isinstance(content, dict):
        raise CheckpointError("CHECKPOINT_KEYS", f"{where} is not a state dict.")
    return {str(key).removeprefix("module."): tensor for key, tensor in content.items()}
