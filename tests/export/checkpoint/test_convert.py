"""From layout to layout and back every tensor is the same bit for bit, and so is the model; else nothing is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft_adapters import Tree, two, write_peft
from safetensors.torch import load_file, save_file
from small_model import Size, State, folds_of, tuned_folds_of, write_checkpoint

from noduleserve import cli
from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint import read_checkpoint
from noduleserve.export.checkpoint.convert import convert
from noduleserve.export.checkpoint.rounding import differences, restored

FEW = Size(layers=1, rank=4, alpha=3)


def saved(folder: Path, number: int) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"fold_{number}" / "best_both.pt", weights_only=True)["model"]


def bits(array: Any) -> bytes:
    return np.asarray(array).tobytes()


def require_same_files(a: Path, b: Path, folds: int) -> None:
    assert (a / "args.txt").read_bytes() == (b / "args.txt").read_bytes()
    for number in range(folds):
        one, other = saved(a, number), saved(b, number)
        assert one.keys() == other.keys()
        for key, tensor in one.items():
            assert (tensor.shape, tensor.dtype) == (other[key].shape, other[key].dtype)
            assert bits(tensor) == bits(other[key]), key


def there_and_back(folder: Path, tmp_path: Path, folds: int, **options: Any) -> tuple[Path, Path]:
    """Convert twice, and require that nothing changed."""
    peft_folder, back = tmp_path / "peft", tmp_path / "back"
    convert(folder, "open_clip+peft", peft_folder, **options)
    convert(peft_folder, "published", back)
    require_same_files(folder, back, folds)
    return peft_folder, back


def with_leftovers(folds: list[State]) -> list[State]:
    """What training leaves in the files: losses' buffers, and a logit_scale of one axis."""
    return [
        fold
        | {"pred_criterion_val.weight": np.array([0.3, 0.7], np.float32), "logit_scale": np.ones(1, np.float32) * n}
        for n, fold in enumerate(folds)
    ]


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("size", [Size(), FEW])
@pytest.mark.parametrize("leftovers", [True, False])
def test_lora(tmp_path: Path, size: Size, merged: bool, leftovers: bool) -> None:
    folds = folds_of(3, size, merged=merged)
    folder = write_checkpoint(tmp_path / "c", with_leftovers(folds) if leftovers else folds, size, x=(1, "two"))
    peft_folder, _ = there_and_back(folder, tmp_path, 3)
    one, other = read_checkpoint(folder), read_checkpoint(peft_folder)
    assert (one.args, one.lora_state, one.dimensions) == (other.args, other.lora_state, other.dimensions)
    for a, b in zip((*one.folds, one.base), (*other.folds, other.base), strict=True):
        assert a.keys() == b.keys()
        assert all(bits(a[key]) == bits(b[key]) for key in a)
    for a, b in zip(one.updates, other.updates, strict=True):
        assert {layer: (bits(u.a), bits(u.b), u.scale) for layer, u in a.items()} == {
            layer: (bits(u.a), bits(u.b), u.scale) for layer, u in b.items()
        }
    assert (peft_folder / "fold_1" / "rounding.safetensors").exists() == merged


@pytest.mark.parametrize("tuning", ["ft", "pt"])
def test_without_lora(tmp_path: Path, tuning: str) -> None:
    folds = with_leftovers(tuned_folds_of(2, tuning))
    folds[1]["ln_final.bias"] = -folds[0]["ln_final.bias"] * 0  # -0 and 0 among them
    folder = write_checkpoint(tmp_path / "c", folds, tuning=tuning)
    peft_folder, _ = there_and_back(folder, tmp_path, 2)
    assert (peft_folder / "base.safetensors").exists() == (tuning == "pt")
    for a, b in zip(read_checkpoint(folder).folds, read_checkpoint(peft_folder).folds, strict=True):
        assert all(bits(a[key]) == bits(b[key]) for key in a)


def test_folds_whose_base_differs_in_the_last_places(tmp_path: Path) -> None:
    for merged in (True, False):
        folds = folds_of(3, merged=merged)
        for key in [k for k in folds[1] if k.endswith("attn.k_proj.weight")]:
            folds[1][key] = np.nextafter(folds[1][key], np.float32(9))
        folder = write_checkpoint(tmp_path / f"c{merged}", folds)
        (tmp_path / str(merged)).mkdir()
        there_and_back(folder, tmp_path / str(merged), 3)


@pytest.mark.parametrize("merged", [True, False])
def test_one_fold(tmp_path: Path, merged: bool) -> None:
    folder = write_checkpoint(tmp_path / "c", folds_of(1, merged=merged))
    with pytest.raises(CheckpointError) as caught:
        convert(folder, "open_clip+peft", tmp_path / "peft")
    assert caught.value.code == "LORA_STATE_UNDECIDABLE" and {p.name for p in tmp_path.iterdir()} == {"c"}
    there_and_back(folder, tmp_path, 1, lora_state="merged" if merged else "unmerged")


def test_lora_on_some_layers_of_one_tower(tmp_path: Path) -> None:
    """`transformer.resblocks.0...` is the end of a name in the image tower as well."""
    folds = folds_of(2, merged=False)
    keep = "transformer.resblocks.0.attn.q_proj."
    folds = [{k: v for k, v in f.items() if ".w_lora_" not in k or k.startswith(keep)} for f in folds]
    there_and_back(write_checkpoint(tmp_path / "c", folds), tmp_path, 2)


def test_the_published_layout(published_checkpoint: Path, tmp_path: Path) -> None:
    there_and_back(published_checkpoint, tmp_path, 5)


def test_peft_loads_the_adapters(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", folds_of(2))
    convert(folder, "open_clip+peft", tmp_path / "peft")
    model = peft.PeftModel.from_pretrained(Tree(), str(tmp_path / "peft" / "fold_1"))
    merged = model.merge_and_unload().state_dict()
    fold, moved = read_checkpoint(folder).folds[1], 0
    for key in (k for k in fold if k.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))):
        np.testing.assert_allclose(merged[key.replace("vision_model.", "visual.")], fold[key], rtol=0, atol=1e-6)
        moved += 1
    assert moved == 9


# ---------------------------------------------------------------- adapters that PEFT wrote


def test_an_adapter_of_peft_in_the_published_layout(tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "c", two(target_modules=["q_proj", "v_proj", "c_fc", "out_proj"]))
    convert(folder, "published", tmp_path / "published")
    assert read_checkpoint(tmp_path / "published").args | {"seed": 3} == read_checkpoint(tmp_path / "published").args
    for a, b in zip(read_checkpoint(folder).folds, read_checkpoint(tmp_path / "published").folds, strict=True):
        assert a.keys() == b.keys() and all(bits(a[key]) == bits(b[key]) for key in a)
    convert(tmp_path / "published", "open_clip+peft", tmp_path / "again")
    for number in range(2):
        one, other = (
            load_file(f / f"fold_{number}" / "adapter_model.safetensors") for f in (folder, tmp_path / "again")
        )
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    "config", [{"use_rslora": False}, {"rank_pattern": {"k_proj": 5}}, {"alpha_pattern": {"k_proj": 5}}]
)
def test_what_the_published_layout_cannot_say(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = write_peft(tmp_path / "c", two(**config))
    with pytest.raises(CheckpointError) as caught:
        convert(folder, "published", tmp_path / "published")
    assert caught.value.code == "CONVERT_UNSUPPORTED"
    assert {p.name for p in tmp_path.iterdir()} == {"c"}


# ---------------------------------------------------------------- what else is in the folder, and what goes wrong


def test_calibrations_are_taken_along_and_pickles_are_not(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", folds_of(2))
    (folder / "fold_0" / "calibration.json").write_text('{"kind": "beta", "a": 1, "b": 1, "c": 0}')
    (folder / "fold_0" / "cal_0.pkl").write_bytes(b"x")
    done = convert(folder, "open_clip+peft", tmp_path / "peft")
    assert (done.calibrations, done.left_behind) == (1, ("fold_0/cal_0.pkl",))
    assert not list((tmp_path / "peft").rglob("*.pkl"))
    copy = tmp_path / "peft" / "fold_0" / "calibration.json"
    assert copy.read_bytes() == (folder / "fold_0" / "calibration.json").read_bytes()


def test_nothing_but_safetensors_and_json_is_written(tmp_path: Path) -> None:
    convert(write_checkpoint(tmp_path / "c", folds_of(2)), "open_clip+peft", tmp_path / "peft")
    files = [p for p in (tmp_path / "peft").rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {".json", ".safetensors"}
    assert all(p.stat().st_mode & 0o444 == 0o444 for p in files)


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", folds_of(2))
    (tmp_path / "out").mkdir()
    with pytest.raises(CheckpointError) as caught:
        convert(folder, "open_clip+peft", tmp_path / "out")
    assert caught.value.code == "OUT_EXISTS" and not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("to", ["published", "open_clip+peft"])
def test_the_layout_that_it_has_already(tmp_path: Path, to: Any) -> None:
    folder = write_checkpoint(tmp_path / "c", folds_of(2))
    if to == "open_clip+peft":
        convert(folder, to, tmp_path / "peft")
        folder = tmp_path / "peft"
    with pytest.raises(CheckpointError) as caught:
        convert(folder, to, tmp_path / "out")
    assert caught.value.code == "CONVERT_NOTHING" and not (tmp_path / "out").exists()


def test_a_copy_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the writer is found by reading back."""
    from noduleserve.export.checkpoint import write_open_clip_peft as writer

    folder = write_checkpoint(tmp_path / "c", folds_of(2))
    monkeypatch.setattr(writer, "differences", lambda *_: {})
    with pytest.raises(CheckpointError) as caught:
        convert(folder, "open_clip+peft", tmp_path / "peft")
    assert caught.value.code == "CONVERT_DIFFERS" and "attn" in caught.value.what
    assert {p.name for p in tmp_path.iterdir()} == {"c"}


def test_the_base_in_the_files_is_open_clip_s(tmp_path: Path) -> None:
    convert(write_checkpoint(tmp_path / "c", folds_of(2)), "open_clip+peft", tmp_path / "peft")
    base = load_file(tmp_path / "peft" / "base.safetensors")
    assert base["visual.transformer.resblocks.0.attn.in_proj_weight"].shape == (192, 64)
    assert not [key for key in base if "q_proj" in key or "vision_model" in key]
    model = json.loads((tmp_path / "peft" / "model.json").read_text())
    assert (model["format"], model["layout"], model["tuning"], model["folds"]) == (1, "open_clip+peft", "lora", 2)


# ---------------------------------------------------------------- rounding


def awkward(seed: int) -> np.ndarray:
    """Any bit pattern of a finite float32, and the awkward ones."""
    random = np.random.default_rng(seed)
    array = random.integers(0, 2**32, (40, 30), dtype=np.uint32).view(np.float32)
    array = np.where(np.isfinite(array), array, np.float32(1))
    array.flat[:5] = [0.0, -0.0, np.finfo(np.float32).tiny, np.finfo(np.float32).smallest_subnormal, -3.4e38]
    return array


@pytest.mark.parametrize("seed", range(3))
def test_every_difference_comes_back(seed: int) -> None:
    exact, computed = awkward(seed), awkward(seed + 50)
    little = np.random.default_rng(seed).integers(-140, 140, exact.shape).astype(np.uint32)
    near = (exact.view(np.uint32) + little).view(np.float32)
    for other in (computed, near, -exact):
        tensors = differences("w", exact, other)
        assert bits(restored("w", other, tensors)) == bits(exact)
    assert differences("w", exact, exact.copy()) == {}
    assert restored("w", exact, {}) is exact


def test_most_differences_take_a_byte() -> None:
    exact = np.full((100, 100), 0.5, np.float32)
    computed = np.nextafter(exact, np.float32(1))
    tensors = differences("w", exact, computed)
    assert tensors.keys() == {"w"} and tensors["w"].dtype == np.int8 and tensors["w"].shape == exact.shape
    computed[0, 3] = -0.5
    tensors = differences("w", exact, computed)
    assert tensors["w.at"].tolist() == [3] and bits(restored("w", computed, tensors)) == bits(exact)


@pytest.mark.parametrize(
    "change",
    [
        {"w": np.zeros((2, 2), np.int8)},
        {"w": np.zeros((3, 3), np.int16)},
        {"w.at": np.zeros(1, np.int32)},
        {"w.by": np.zeros(2, np.int32)},
        {"w.by": np.zeros(1, np.int64)},
    ],
)
def test_rounding_that_does_not_fit(tmp_path: Path, change: dict[str, Any]) -> None:
    exact = np.eye(3, dtype=np.float32)
    computed = exact.copy()
    computed[1, 1] = -1
    with pytest.raises(ValueError, match="w"):
        restored("w", computed, differences("w", exact, computed) | change)


def test_a_rounding_file_that_was_damaged(tmp_path: Path) -> None:
    convert(write_checkpoint(tmp_path / "c", folds_of(2)), "open_clip+peft", tmp_path / "peft")
    file = tmp_path / "peft" / "fold_1" / "rounding.safetensors"
    save_file({key: value[:1].clone() for key, value in load_file(file).items()}, file)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "peft")
    assert caught.value.code == "ROUNDING_INVALID" and "fold_1" in caught.value.what


# ---------------------------------------------------------------- the command


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_checkpoint(tmp_path / "c", folds_of(1))
    (folder / "fold_0" / "cal_0.pkl").write_bytes(b"x")

    def run(*arguments: Any) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["noduleserve", "convert", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out + captured.err

    out = tmp_path / "peft"
    assert "LORA_STATE_UNDECIDABLE" in run(folder, "--to", "open_clip+peft", "--out", out)[1]
    code, text = run(folder, "--to", "open_clip+peft", "--out", out, "--lora-state", "merged")
    assert code == 0 and "bit for bit" in text and "left behind: fold_0/cal_0.pkl" in text
    code, text = run(out, "--to", "published", "--out", tmp_path / "back")
    assert code == 0 and "--lora-state merged" in text
    require_same_files(folder, tmp_path / "back", 1)
