"""The base of a checkpoint: files of OpenAI and open_clip, half precision, open_clip's cache, and no download."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import open_clip
import open_clip.factory
import open_clip.pretrained
import pytest
import torch
from safetensors.torch import save_file
from small_model import SMALL, as_torch, base_of, open_clip_keys, tuned_folds_of
from torch import nn

from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint import read_checkpoint
from noduleserve.export.checkpoint.base import read_base

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning", "ignore:.*torch.jit.*:DeprecationWarning")
TINY = "ViT-tiny-32-quickgelu"


def openai_archive(tensors: dict[str, torch.Tensor], file: Path) -> None:
    """TorchScript with these tensors, as OpenAI publishes its models, buffers that are no weights among them."""
    root = nn.Module()
    for key, value in tensors.items():
        *path, last = key.split(".")
        module = root
        for name in path:
            if name not in module._modules:
                module.add_module(name, nn.Module())
            module = module._modules[name]
        module.register_parameter(last, nn.Parameter(value, requires_grad=False))
    for name, number in (("input_resolution", 224), ("context_length", 77), ("vocab_size", SMALL.tokens)):
        root.register_buffer(name, torch.tensor(number))
    torch.jit.save(torch.jit.script(root), file)


def in_half(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.half() for key, value in tensors.items()}


TENSORS = {key: value.contiguous() for key, value in open_clip_keys(base_of()).items()}
FORMS: dict[str, tuple[str, Callable[[Path], Any], bool]] = {
    "safetensors": ("b.safetensors", lambda f: save_file(TENSORS, f), False),
    "safetensors in half": ("b.safetensors", lambda f: save_file(in_half(TENSORS), f), True),
    "a state dict": ("b.pt", lambda f: torch.save(TENSORS, f), False),
    "an open_clip training": (
        "b.pt",
        lambda f: torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in TENSORS.items()}}, f),
        False,
    ),
    "OpenAI's archive": ("b.pt", lambda f: openai_archive(TENSORS, f), False),
    "OpenAI's archive in half": ("b.pt", lambda f: openai_archive(in_half(TENSORS), f), True),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_published_keys(tmp_path: Path, form: str) -> None:
    name, write, half = FORMS[form]
    write(tmp_path / name)
    state, widened = read_base(tmp_path / name, name)
    assert widened is half and state.keys() == base_of().keys()
    for key, value in base_of().items():
        expected = value.astype(np.float16).astype(np.float32) if half else value
        assert state[key].dtype == np.float32
        np.testing.assert_array_equal(state[key], expected)


def test_an_archive_s_code_does_not_run(tmp_path: Path) -> None:
    file = tmp_path / "b.pt"
    openai_archive(TENSORS, file)
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.mkdir, (tmp_path / "trap",)

    (name,) = [n for n in parts if n.endswith("/data.pkl")]
    parts[name] = pickle.dumps(Trap(), protocol=2)
    with zipfile.ZipFile(file, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    with pytest.raises(CheckpointError) as caught:
        read_base(file, "b.pt")
    assert caught.value.code == "CHECKPOINT_UNSAFE" and not (tmp_path / "trap").exists()


@pytest.mark.parametrize("lost", ["data/0", "data.pkl"])
def test_an_archive_that_lacks_a_part(tmp_path: Path, lost: str) -> None:
    whole, file = tmp_path / "whole.pt", tmp_path / "b.pt"
    openai_archive(TENSORS, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            if not name.endswith(f"/{lost}"):
                target.writestr(name, source.read(name))
    with pytest.raises(CheckpointError) as caught:
        read_base(file, "b.pt")
    assert caught.value.code == "CHECKPOINT_UNREADABLE"


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({"visual.transformer.resblocks.0.attn.in_proj_weight": torch.ones(64, 64)}, "CHECKPOINT_SHAPES"),
        ({"x": torch.ones(2, dtype=torch.int64)}, "CHECKPOINT_DTYPE"),
        ({"x": [1, 2]}, "CHECKPOINT_KEYS"),
    ],
)
def test_what_is_no_base(tmp_path: Path, tensors: dict[str, Any], code: str) -> None:
    torch.save(tensors, tmp_path / "b.pt")
    with pytest.raises(CheckpointError) as caught:
        read_base(tmp_path / "b.pt", "b.pt")
    assert caught.value.code == code


# ---------------------------------------------------------------- open_clip's cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a small model that open_clip knows, with weights of three tags."""
    vision = {"layers": SMALL.layers, "width": SMALL.width, "patch_size": SMALL.patch, "image_size": 224}
    text = {"context_length": 77, "vocab_size": SMALL.tokens, "width": SMALL.text_width, "heads": 1, "layers": 1}
    config = {"embed_dim": SMALL.embed, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, TINY, config)
    tags = {
        "openai": {"hf_hub": "someone/tiny/", "quick_gelu": True},
        "old": {"url": "https://nowhere.invalid/tiny.pt"},
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, TINY, tags)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def checkpoint(folder: Path, pretrained: str) -> Path:
    folder.mkdir()
    content = {"format": 1, "layout": "open_clip+peft", "open_clip": TINY, "pretrained": pretrained}
    (folder / "model.json").write_text(json.dumps(content | {"tuning": "pt", "folds": 1}))
    (folder / "fold_0").mkdir()
    heads = {k: v for k, v in as_torch(tuned_folds_of(1, "pt")[0]).items() if k not in base_of()}
    save_file(heads, folder / "fold_0" / "heads.safetensors")
    return folder


def put(cache: Path, pretrained: str) -> str:
    """Put the weights where open_clip would have; the file's name."""
    if pretrained == "old":
        file = cache / "home" / ".cache" / "clip" / "tiny.pt"
        file.parent.mkdir(parents=True)
        openai_archive(in_half(TENSORS), file)
    else:
        file = cache / "hub" / "models--someone--tiny" / "snapshots" / "abc" / "open_clip_model.safetensors"
        file.parent.mkdir(parents=True)
        save_file(TENSORS, file)
        refs = cache / "hub" / "models--someone--tiny" / "refs"
        refs.mkdir()
        (refs / "main").write_text("abc")
    return f"open_clip:{TINY}/{pretrained}"


@pytest.mark.parametrize("pretrained", ["openai", "old"])
def test_the_base_is_found_where_open_clip_keeps_it(cache: Path, pretrained: str) -> None:
    name = put(cache, pretrained)
    read = read_checkpoint(checkpoint(cache / "c", pretrained))
    assert name in read.sha256
    assert read.args == ({"base_widened_from": "float16"} if pretrained == "old" else {})
    key = "transformer.resblocks.0.attn.k_proj.weight"
    np.testing.assert_allclose(read.folds[0][key], base_of()[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pretrained", ["openai", "old"])
def test_nothing_is_downloaded(cache: Path, pretrained: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(checkpoint(cache / "c", pretrained))
    assert caught.value.code == "BASE_NOT_CACHED"
    assert f"open_clip.create_model('{TINY}', pretrained='{pretrained}')" in caught.value.mend
    assert not list(cache.glob("hub/**/*")) and not list(cache.glob("home/**/*"))


def test_a_tag_that_open_clip_does_not_know(cache: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(checkpoint(cache / "c", "nobody"))
    assert caught.value.code == "MODEL_UNKNOWN" and "openai, old" in caught.value.mend


def test_a_base_that_was_trained_with_gelu(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache, "openai")
    config = open_clip.factory._MODEL_CONFIGS[TINY] | {"quick_gelu": False}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, TINY, config)
    assert read_checkpoint(checkpoint(cache / "c", "openai")).tuning == "pt"  # the tag says QuickGELU
    shutil.rmtree(cache / "c")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(checkpoint(cache / "c", "old"))
    assert caught.value.code == "GELU_UNSUPPORTED"
