"""Adapters written by PEFT itself are merged as PEFT merges them; what would merge otherwise is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft_adapters import clip, two, write_peft
from safetensors.torch import load_file, save_file
from small_model import as_torch, base_of, fold_of, open_clip_keys, plain_of, random_views, tuned_folds_of

from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint import Checkpoint, peft_attention, read_checkpoint
from noduleserve.export.checkpoint.unmerged import UnmergedModel
from noduleserve.export.proof.torch_model import TorchModel


def refusal(folder: Path, **options: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder, **options)
    return caught.value


def merged_by_peft(model: peft.PeftModel) -> dict[str, np.ndarray]:
    return {key: value.detach().numpy().copy() for key, value in model.merge_and_unload().state_dict().items()}


def published(name: str) -> str:
    return name.replace("visual.", "vision_model.", 1).replace(".attn.out_proj.", ".attn.proj.")


# ---------------------------------------------------------------- what is read


CONFIGS: dict[str, dict[str, Any]] = {
    "q, k, v": {},
    "alpha / r": {"use_rslora": False},
    "everything": {"target_modules": ["q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"]},
    "a pattern": {"target_modules": r"visual\..*\.(v_proj|c_fc)"},
    "ranks and alphas": {"rank_pattern": {"k_proj": 5}, "alpha_pattern": {"resblocks.0.attn.q_proj": 7}, "r": 3},
    "one block": {"layers_to_transform": [0], "layers_pattern": "resblocks"},
    "without text": {"exclude_modules": r"transformer\..*"},
}


@pytest.mark.parametrize("which", CONFIGS)
def test_weights_are_merged_as_peft_merges_them(tmp_path: Path, which: str) -> None:
    models = two(**CONFIGS[which])
    checkpoint = read_checkpoint(write_peft(tmp_path / "c", models))
    assert (checkpoint.layout, checkpoint.tuning, checkpoint.decided_by) == ("open_clip+peft", "lora", "layout")
    for number, model in enumerate(models):
        moved = 0
        for name, value in merged_by_peft(model).items():
            if name.endswith(".weight"):
                np.testing.assert_allclose(checkpoint.folds[number][published(name)], value, rtol=0, atol=1e-6)
                moved += np.abs(base_of()[published(name)] - value).max() > 0.01
        assert moved == len(checkpoint.updates[number]) > 0


def test_the_unmerged_model_on_such_a_checkpoint(tmp_path: Path) -> None:
    """Its ranks and scalings are PEFT's, so that this proves the merge."""
    checkpoint, views = read_checkpoint(write_peft(tmp_path / "c", two(**CONFIGS["ranks and alphas"]))), random_views(2)
    merged, unmerged = TorchModel(checkpoint.dimensions), UnmergedModel(checkpoint)
    for number, fold in enumerate(checkpoint.folds):
        merged.load(fold)
        unmerged.load(number)
        for a, b in zip(merged.encode_views(views), unmerged.encode_views(views), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_packed_attentions_compute_what_peft_does(tmp_path: Path) -> None:
    """A whole open_clip model, adapted and run by PEFT, against the folds that are read."""
    models = two(clip, target_modules=["attn", "c_fc", "c_proj"])
    checkpoint: Checkpoint = read_checkpoint(write_peft(tmp_path / "c", models))
    assert len(checkpoint.updates[0]) == 3 * 6
    pixels = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 3, 224, 224)).astype(np.float32))
    ours = TorchModel(checkpoint.dimensions)
    for number, model in enumerate(models):
        ours.load(checkpoint.folds[number])
        with torch.no_grad():
            expected, got = model.base_model.model.encode_image(pixels), ours._clip.encode_image(pixels)
            before = clip().encode_image(pixels)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
        assert np.abs(before - expected).max() > 0.01
    for number, model in enumerate(models):
        packed = open_clip_keys(checkpoint.folds[number])
        for name, value in merged_by_peft(model).items():
            if name not in ("logit_scale", "attn_mask"):
                np.testing.assert_allclose(packed[name], value, rtol=0, atol=1e-6)


def test_the_output_projection_of_a_packed_attention_is_added_as_often_as_peft_added_it(tmp_path: Path) -> None:
    """PEFT up to 0.21.2 adds it twice, in training as well; see `peft_attention`."""
    if peft_attention.out_projection_times(peft.__version__, "") == 2:
        assert peft_attention.measured_times() == 2
    folder = write_peft(tmp_path / "c", two(clip, target_modules=["attn"]))
    layer = "transformer.resblocks.0.attn.proj"
    scales = {}
    for version in ("0.21.2", "0.14.0", None):
        for number in range(2):
            edit(folder / f"fold_{number}" / "adapter_config.json", peft_version=version)
        updates = read_checkpoint(folder).updates[0]
        scales[version] = updates[layer].scale / updates["transformer.resblocks.0.attn.q_proj"].scale
    assert scales == {"0.21.2": 2, "0.14.0": 2, None: 2}
    edit(folder / "fold_0" / "adapter_config.json", peft_version="99.1.0")
    error = refusal(folder)
    assert error.code == "ADAPTER_UNSUPPORTED" and "peft==99.1.0" in error.mend


def test_modules_that_were_trained_as_a_whole(tmp_path: Path) -> None:
    models = two(clip, target_modules=["attn"], modules_to_save=["ln_post"])
    checkpoint = read_checkpoint(write_peft(tmp_path / "c", models))
    for number, model in enumerate(models):
        trained = model.base_model.model.visual.ln_post.modules_to_save["default"].weight.detach().numpy()
        np.testing.assert_array_equal(checkpoint.folds[number]["vision_model.ln_post.weight"], trained)
    assert (
        np.abs(checkpoint.folds[0]["vision_model.ln_post.weight"] - base_of()["vision_model.ln_post.weight"]).max()
        > 0.1
    )


def test_everything_else_is_the_base_and_the_fold_s_heads(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_peft(tmp_path / "c", two()))
    for number, fold in enumerate(checkpoint.folds):
        expected = plain_of(fold_of(base_of(), number, merged=False))
        assert fold.keys() == expected.keys()
        for key in fold.keys() - {f"{layer}.weight" for layer in checkpoint.base}:
            np.testing.assert_array_equal(fold[key], expected[key])
    assert checkpoint.args == {"seed": 3}
    names = ("adapter_config.json", "adapter_model.safetensors", "heads.safetensors")
    own = {f"fold_{number}/{name}" for number in range(2) for name in names}
    assert checkpoint.sha256.keys() == {"model.json", "base.safetensors"} | own


def test_the_text_part_is_that_of_the_whole(tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "c", two())
    whole, text = read_checkpoint(folder), read_checkpoint(folder, part="text")
    assert text.sha256 == whole.sha256 and 0 < len(text.folds[0]) < len(whole.folds[0])
    for part, fold in zip(text.folds, whole.folds, strict=True):
        for key in part:
            np.testing.assert_array_equal(part[key], fold[key])


@pytest.mark.parametrize("tuning", ["ft", "pt"])
@pytest.mark.parametrize("based", [True, False])
def test_folds_without_lora(tmp_path: Path, tuning: str, based: bool) -> None:
    folder, folds = tmp_path / "c", tuned_folds_of(2, tuning)
    folder.mkdir()
    content = {"format": 1, "layout": "open_clip+peft", "tuning": tuning, "folds": 2}
    if based:
        torch.save(open_clip_keys(base_of()), folder / "base.pt")
        content["base"] = "base.pt"
    (folder / "model.json").write_text(json.dumps(content))
    for number, fold in enumerate(folds):
        (folder / f"fold_{number}").mkdir()
        own = {k: v for k, v in fold.items() if not (based and k in base_of() and np.array_equal(v, base_of()[k]))}
        save_file(as_torch(own), folder / f"fold_{number}" / "heads.safetensors")
    checkpoint = read_checkpoint(folder)
    assert (checkpoint.tuning, checkpoint.lora_state) == (tuning, None)
    for read, fold in zip(checkpoint.folds, folds, strict=True):
        assert read.keys() == fold.keys()
        for key in fold:
            np.testing.assert_array_equal(read[key], fold[key])
    two()[0].save_pretrained(folder / "fold_1")
    assert refusal(folder).code == "CHECKPOINT_TUNING"


def test_adapters_on_a_base_that_the_folds_hold_themselves(tmp_path: Path) -> None:
    models = two()
    folder, whole = write_peft(tmp_path / "c", models), write_peft(tmp_path / "whole", models, base=None)
    (whole / "base.safetensors").unlink()
    for number in range(2):
        file = whole / f"fold_{number}" / "heads.safetensors"
        save_file(as_torch(base_of()) | {k: v.clone() for k, v in load_file(file).items()}, file)
    one, other = read_checkpoint(folder), read_checkpoint(whole)
    for a, b in zip((*one.folds, one.base), (*other.folds, other.base), strict=True):
        assert a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
    changed = base_of()
    changed["transformer.resblocks.0.attn.q_proj.weight"][0, 0] += 1
    save_file(as_torch(changed) | {k: v.clone() for k, v in load_file(file).items() if k not in changed}, file)
    error = refusal(whole)
    assert error.code == "CHECKPOINT_KEYS" and "fold_1 has another weight" in error.what


# ---------------------------------------------------------------- adapters that are refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_peft(tmp_path / "c", two())


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("bias", "lora_only"),
        ("fan_in_fan_out", True),
        ("lora_bias", True),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "olora"),
        ("loftq_config", {"loftq_bits": 4}),
        ("layer_replication", [[0, 1]]),
        ("trainable_token_indices", [1, 2]),
        ("target_parameters", ["proj"]),
        ("use_qalora", True),
        ("something_of_tomorrow", 1),
    ],
)
def test_what_is_not_supported_is_named(folder: Path, name: str, value: Any) -> None:
    edit(folder / "fold_1" / "adapter_config.json", **{name: value})
    error = refusal(folder)
    assert error.code == "ADAPTER_UNSUPPORTED" and "fold_1" in error.what and f"{name}={value!r}" in error.what


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"peft_type": "LOHA"}', '{"peft_type": "LORA", "r": 0}'])
def test_a_configuration_that_is_none(folder: Path, text: str) -> None:
    (folder / "fold_0" / "adapter_config.json").write_text(text)
    assert refusal(folder).code == "ADAPTER_CONFIG"


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    file = folder / "fold_1" / "adapter_model.safetensors"
    tensors = {key: value.clone() for key, value in load_file(file).items()}
    change(tensors)
    save_file(tensors, file)


FIRST = "base_model.model.transformer.resblocks.0.attn.q_proj.lora_B.weight"


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("ADAPTER_KEYS", lambda t: t.pop(FIRST)),
        ("ADAPTER_KEYS", lambda t: t.update({FIRST.replace("q_proj", "z_proj"): torch.ones(64, 2)})),
        ("ADAPTER_KEYS", lambda t: t.update({"base_model.model.ln_final.weight": torch.ones(64)})),
        ("ADAPTER_KEYS", lambda t: t.update({"ln_final.weight": torch.ones(64)})),
        ("ADAPTER_KEYS", lambda t: t.clear()),
        ("CHECKPOINT_SHAPES", lambda t: t.update({FIRST: torch.ones(64, 3)})),
        ("CHECKPOINT_NOT_FINITE", lambda t: t[FIRST].fill_(torch.nan)),
        ("CHECKPOINT_DTYPE", lambda t: t.update({FIRST: t[FIRST].half()})),
    ],
)
def test_weights_that_do_not_fit_the_configuration(folder: Path, code: str, change: Callable[[Any], Any]) -> None:
    change_weights(folder, change)
    error = refusal(folder)
    assert error.code == code and "fold_1" in error.what


@pytest.mark.parametrize("config", [{"r": 3}, {"lora_alpha": 5}, {"use_rslora": False}, {"target_modules": ["q_proj"]}])
def test_folds_that_are_not_alike(tmp_path: Path, config: dict[str, Any]) -> None:
    assert refusal(write_peft(tmp_path / "c", [two()[0], two(**config)[1]])).code == "ADAPTER_KEYS"


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors", "heads.safetensors"])
def test_a_file_that_is_not_there(folder: Path, file: str) -> None:
    (folder / "fold_1" / file).unlink()
    error = refusal(folder)
    assert error.code == "CHECKPOINT_NOT_FOUND" and f"fold_1/{file}" in error.what


@pytest.mark.parametrize("file", ["base.safetensors", "fold_1/adapter_model.safetensors", "fold_0/heads.safetensors"])
def test_a_file_cut_short(folder: Path, file: str) -> None:
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    error = refusal(folder)
    assert error.code == "CHECKPOINT_UNREADABLE" and file in error.what


def test_heads_that_lack_something(folder: Path) -> None:
    file = folder / "fold_1" / "heads.safetensors"
    save_file({k: v.clone() for k, v in load_file(file).items() if "classifier_image" not in k}, file)
    error = refusal(folder)
    assert error.code == "CHECKPOINT_KEYS" and "classifier_image" in error.what


def test_lora_in_the_heads(folder: Path) -> None:
    file = folder / "fold_1" / "heads.safetensors"
    save_file({k: v.clone() for k, v in load_file(file).items()} | {"x.w_lora_A": torch.ones(2)}, file)
    assert refusal(folder).code == "CHECKPOINT_KEYS"


# ---------------------------------------------------------------- model.json


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"format": 2}, "MODEL_FILE"),
        ({"layout": "published"}, "MODEL_FILE"),
        ({"extra": 1}, "MODEL_FILE"),
        ({"base": 3}, "MODEL_FILE"),
        ({"args": []}, "MODEL_FILE"),
        ({"pretrained": "openai"}, "MODEL_FILE"),
        ({"lora_state": "half"}, "MODEL_FILE"),
        ({"tuning": "prompt"}, "CHECKPOINT_TUNING"),
        ({"tuning": "ft"}, "CHECKPOINT_TUNING"),
        ({"folds": 0}, "CHECKPOINT_ARGS"),
        ({"folds": 1}, "CHECKPOINT_FOLDS"),
        ({"folds": 3}, "CHECKPOINT_FOLDS"),
        ({"base": "nowhere.pt"}, "CHECKPOINT_NOT_FOUND"),
        ({"base": None}, "CHECKPOINT_KEYS"),
        ({"open_clip": "ViT-Z"}, "MODEL_UNKNOWN"),
        ({"open_clip": "ViT-B-32"}, "GELU_UNSUPPORTED"),
        ({"open_clip": "ViT-B-32-quickgelu"}, "CHECKPOINT_MODEL"),
        ({"args_txt": "Namespace(n_splits=5, tuning='lora', r=2, alpha=3)"}, "MODEL_FILE"),
    ],
)
def test_a_model_file_that_is_refused(folder: Path, changes: dict[str, Any], code: str) -> None:
    edit(folder / "model.json", **changes)
    assert refusal(folder).code == code


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1, "layout": "open_clip+peft"}'])
def test_a_model_file_that_is_none(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text)
    assert refusal(folder).code == "MODEL_FILE"


def test_two_layouts_at_once_and_none(folder: Path, tmp_path: Path) -> None:
    (folder / "args.txt").write_text("Namespace(n_splits=2, tuning='lora', r=2, alpha=1)")
    assert refusal(folder).code == "CHECKPOINT_LAYOUT"
    assert refusal(tmp_path).code == "CHECKPOINT_NOT_FOUND"


def test_a_lora_state_that_the_layout_contradicts(folder: Path) -> None:
    assert read_checkpoint(folder, lora_state="unmerged").lora_state == "unmerged"
    assert refusal(folder, lora_state="merged").code == "LORA_STATE_WRONG"
