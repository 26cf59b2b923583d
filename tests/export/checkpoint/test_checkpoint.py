"""Checkpoints in the published layout are read number for number; others are refused, and no code in them runs."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_model import Size, State, as_torch, base_of, fold_of, folds_of, write_checkpoint, write_fold

from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint import read_checkpoint
from noduleserve.export.checkpoint.arguments import read_args

FOLDS = 2
Q_PROJ = "vision_model.transformer.resblocks.0.attn.q_proj"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", folds_of(FOLDS))


def refusal(folder: Path, **options: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder, **options)
    return caught.value


# ---------------------------------------------------------------- what is read


def test_the_published_layout(published_checkpoint: Path) -> None:
    told: list[str] = []
    checkpoint = read_checkpoint(published_checkpoint, tell=told.append)
    assert len(checkpoint.folds) == 5
    assert (checkpoint.lora_state, checkpoint.decided_by) == ("merged", "folds")
    assert checkpoint.args["params"] == ["q", "k", "v"] and checkpoint.args["dropout_rate"] == 0.25
    size = checkpoint.dimensions
    assert (size.patch, size.grid, size.vocabulary, size.embed, size.out) == (32, 7, 49408, 512, 256)
    assert (size.image.width, size.image.layers, size.image.heads) == (64, 2, 1)
    assert (size.text.width, size.text.layers) == (64, 2)
    assert [f"fold_{k}" in " ".join(told) for k in range(5)] == [True] * 5
    for number, fold in enumerate(checkpoint.folds):
        file = published_checkpoint / f"fold_{number}" / "best_both.pt"
        state = torch.load(file, weights_only=True)["model"]
        kept = {k for k in state if "w_lora" not in k and k != "pred_criterion_val.weight"}
        assert set(fold) == kept
        for key in kept:
            np.testing.assert_array_equal(fold[key], state[key].numpy())


def test_the_hashes_are_those_of_the_files(folder: Path) -> None:
    files = ["args.txt", "fold_0/best_both.pt", "fold_1/best_both.pt"]
    expected = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files}
    assert read_checkpoint(folder).sha256 == expected


def test_sizes_are_read_off_the_weights(tmp_path: Path) -> None:
    size = Size(width=128, layers=3, patch=16, text_width=192, text_layers=2, embed=48, out=20, rank=4, alpha=2)
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, folds_of(2, size), size))
    dimensions = checkpoint.dimensions
    assert (dimensions.image.width, dimensions.image.layers, dimensions.image.heads) == (128, 3, 2)
    assert (dimensions.text.width, dimensions.text.layers, dimensions.text.heads) == (192, 2, 3)
    assert (dimensions.patch, dimensions.grid, dimensions.embed, dimensions.out) == (16, 14, 48, 20)


def test_a_logit_scale_of_one_axis_is_that_of_none(tmp_path: Path) -> None:
    folds = folds_of(2)
    for fold in folds:
        fold["logit_scale"] = fold["logit_scale"].reshape(1)
    for fold in read_checkpoint(write_checkpoint(tmp_path, folds)).folds:
        assert fold["logit_scale"].shape == ()


def test_what_the_losses_leave_behind_is_left_out(tmp_path: Path) -> None:
    folds = [fold | {"pred_criterion_val.weight": np.ones(2, np.float32)} for fold in folds_of(2)]
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, folds))
    assert not [key for fold in checkpoint.folds for key in fold if "criterion" in key]


def test_args_are_read_as_literals(tmp_path: Path) -> None:
    text = "Namespace(n_splits=5, tuning='lora', r=2, alpha=-1.5e-3, a=None, b=['q'], c='x, y=1)', d=(1, True))\n"
    (tmp_path / "args.txt").write_text(text)
    assert read_args(tmp_path) == {
        "n_splits": 5, "tuning": "lora", "r": 2, "alpha": -1.5e-3, "a": None, "b": ["q"], "c": "x, y=1)", "d": (1, True)
    }  # fmt: skip


# ---------------------------------------------------------------- args.txt that is refused


def test_no_args(folder: Path) -> None:
    (folder / "args.txt").unlink()
    assert refusal(folder).code == "CHECKPOINT_NOT_FOUND"
    assert refusal(folder / "nowhere").code == "CHECKPOINT_NOT_FOUND"


@pytest.mark.parametrize(
    "text",
    [
        "Namespace(n_splits=open('{trap}', 'w'), tuning='lora', r=2, alpha=1)",
        "Namespace(n_splits=2, tuning='lora', r=2, alpha=__import__('pathlib').Path('{trap}').touch())",
        "Namespace(n_splits=2, tuning='lora', r=2, alpha=1) or open('{trap}', 'w')",
        "open('{trap}', 'w')",
        "open('{trap}', mode='w')",
        "Namespace(n_splits=2, tuning='lora', r=[open('{trap}', 'w')][0], alpha=1)",
        "Namespace(open('{trap}', 'w'), n_splits=2, tuning='lora', r=2, alpha=1)",
        "Namespace(**dict(n_splits=open('{trap}', 'w')))",
        "(open('{trap}', 'w'), Namespace)[1](n_splits=2, tuning='lora', r=2, alpha=1)",
        "import os; os.mkdir('{trap}')",
    ],
)
def test_code_in_args_is_refused_and_does_not_run(folder: Path, tmp_path: Path, text: str) -> None:
    trap = tmp_path / "trap"
    (folder / "args.txt").write_text(text.format(trap=trap))
    assert refusal(folder).code == "CHECKPOINT_ARGS"
    assert not trap.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n_splits=2",
        "{'n_splits': 2}",
        "Namespace",
        "Namespace()",
        "Namespace(n_splits=2, tuning='lora', r=2",
        "Namespace(tuning='lora', r=2, alpha=1)",
        "Namespace(n_splits=2, r=2, alpha=1)",
        "Namespace(n_splits=2, tuning='lora', alpha=1)",
        "Namespace(n_splits=2, tuning='lora', r=2)",
        "Namespace(n_splits=2, tuning='lora', r=2, alpha=inf)",
        "Namespace(n_splits=2, tuning='lora', r=2, alpha=1, x={[]: 1})",
        "Namespace(n_splits='two', tuning='lora', r=2, alpha=1)",
        "Namespace(n_splits=0, tuning='lora', r=2, alpha=1)",
        "Namespace(n_splits=2.5, tuning='lora', r=2, alpha=1)",
        "Namespace(n_splits=2, tuning='lora', r=None, alpha=1)",
        "Namespace(n_splits=2, tuning='lora', r=0, alpha=1)",
        "Namespace(n_splits=2, tuning='lora', r=-2, alpha=1)",
        "Namespace(n_splits=2, tuning='lora', r=2, alpha='1x')",
        "Namespace(n_splits=2, tuning='lora', r=2, alpha=1e999)",
        "Namespace(n_splits=2, tuning='lora', r=2, alpha=1)\0",
    ],
)
def test_args_that_cannot_be_used(folder: Path, text: str) -> None:
    (folder / "args.txt").write_text(text)
    assert refusal(folder).code == "CHECKPOINT_ARGS"


def test_args_that_are_not_text(folder: Path) -> None:
    (folder / "args.txt").write_bytes(b"Namespace(\xff\xfe)")
    assert refusal(folder).code == "CHECKPOINT_ARGS"


@pytest.mark.parametrize("tuning", ["ft", "pt", "linear", None, ["lora"]])
def test_other_ways_of_tuning(tmp_path: Path, tuning: Any) -> None:
    error = refusal(write_checkpoint(tmp_path, folds_of(1), tuning=tuning))
    assert error.code == "CHECKPOINT_TUNING" and repr(tuning) in error.what


# ---------------------------------------------------------------- folds that are refused


def test_a_missing_fold(folder: Path) -> None:
    (folder / "fold_1" / "best_both.pt").unlink()
    error = refusal(folder)
    assert error.code == "CHECKPOINT_FOLDS" and "fold_1/best_both.pt" in error.what


def test_an_extra_fold(folder: Path) -> None:
    (folder / "fold_2").mkdir()
    error = refusal(folder)
    assert error.code == "CHECKPOINT_FOLDS" and "fold_2" in error.what


def changed(number: int, change: Callable[[State], Any]) -> list[State]:
    folds = folds_of(FOLDS)
    change(folds[number])
    return folds


def set_to(key: str, value: Any) -> Callable[[State], Any]:
    return lambda state: state.update({key: value})


def turned(key: str) -> Callable[[State], Any]:
    return lambda state: state.update({key: state[key].T})


def poked(key: str, value: float) -> Callable[[State], Any]:
    def poke(state: State) -> None:
        state[key] = state[key].copy()
        state[key].flat[-1] = value

    return poke


WRONG: dict[str, tuple[str, str, Callable[[State], Any]]] = {
    "a missing key": ("CHECKPOINT_KEYS", "ln_final.bias", lambda s: s.pop("ln_final.bias")),
    "a missing head": ("CHECKPOINT_KEYS", "classifier_image", lambda s: s.pop("classifier_image.weight")),
    "an unknown key": ("CHECKPOINT_KEYS", "extra.weight", set_to("extra.weight", np.ones(3, np.float32))),
    "a missing B": ("CHECKPOINT_KEYS", "w_lora_B", lambda s: s.pop(f"{Q_PROJ}.w_lora_B")),
    "a missing A": ("CHECKPOINT_KEYS", "w_lora_B", lambda s: s.pop(f"{Q_PROJ}.w_lora_A")),
    "LoRA on nothing": ("CHECKPOINT_KEYS", "ghost.w_lora_A", set_to("ghost.w_lora_A", np.ones((2, 64), np.float32))),
    "LoRA on a norm": ("CHECKPOINT_KEYS", "ln_final", set_to("ln_final.w_lora_A", np.ones((2, 64), np.float32))),
    "a block too many": (
        "CHECKPOINT_KEYS",
        "resblocks.2",
        set_to("vision_model.transformer.resblocks.2.ln_1.bias", np.zeros(64, np.float32)),
    ),
    "a wrong shape": ("CHECKPOINT_SHAPES", "ln_final.bias", set_to("ln_final.bias", np.zeros(65, np.float32))),
    "a turned weight": ("CHECKPOINT_SHAPES", "vision_model.proj", turned("vision_model.proj")),
    "another rank": ("CHECKPOINT_SHAPES", "w_lora", set_to(f"{Q_PROJ}.w_lora_A", np.ones((4, 64), np.float32))),
    "NaN": ("CHECKPOINT_NOT_FINITE", "ln_final.weight", poked("ln_final.weight", np.nan)),
    "infinity": ("CHECKPOINT_NOT_FINITE", "w_lora_B", poked(f"{Q_PROJ}.w_lora_B", -np.inf)),
    "float16": ("CHECKPOINT_DTYPE", "float16", set_to("ln_final.bias", np.zeros(64, np.float16))),
    "float64": ("CHECKPOINT_DTYPE", "float64", set_to("ln_final.bias", np.zeros(64, np.float64))),
    "integers": ("CHECKPOINT_DTYPE", "int64", set_to("ln_final.bias", np.zeros(64, np.int64))),
}  # fmt: skip


@pytest.mark.parametrize("number", range(FOLDS))
@pytest.mark.parametrize("what", WRONG)
def test_states_that_are_not_of_the_layout(tmp_path: Path, what: str, number: int) -> None:
    code, named, change = WRONG[what]
    error = refusal(write_checkpoint(tmp_path, changed(number, change)))
    assert error.code == code
    assert f"fold_{number}/best_both.pt" in error.what and named in error.what


def test_every_number_of_a_state_is_looked_at(tmp_path: Path) -> None:
    """One NaN in any tensor, whichever it is."""
    folds = folds_of(1)
    folder = write_checkpoint(tmp_path, folds)
    for key in folds[0]:
        state = dict(folds[0])
        poked(key, np.nan)(state)
        write_fold(folder, 0, {"model": as_torch(state)})
        error = refusal(folder, lora_state="merged")
        assert error.code == "CHECKPOINT_NOT_FINITE" and f" {key} " in error.what


HALVES: dict[str, Callable[[str], bool]] = {
    "without the image tower": lambda key: not key.startswith("vision_model."),
    "without the image tower's blocks": lambda key: not key.startswith("vision_model.transformer."),
    "without the text tower": lambda key: key.startswith(("vision_model.", "image_projection.", "classifier_")),
    "without the text tower's blocks": lambda key: not key.startswith("transformer."),
    "without the heads": lambda key: "_projection." not in key and "classifier" not in key,
    "LoRA only": lambda key: "w_lora" in key,
    "without LoRA": lambda key: "w_lora" not in key,
    "nothing": lambda key: False,
}


@pytest.mark.parametrize("which", HALVES)
def test_half_a_state_dict(tmp_path: Path, which: str) -> None:
    halves = [{k: v for k, v in fold.items() if HALVES[which](k)} for fold in folds_of(FOLDS)]
    assert refusal(write_checkpoint(tmp_path, halves)).code == "CHECKPOINT_KEYS"


@pytest.mark.parametrize("tower", ["vision_model.transformer", "transformer"])
def test_a_gap_in_the_blocks_of_all_folds(tmp_path: Path, tower: str) -> None:
    size = Size(layers=3, text_layers=3)
    gone = f"{tower}.resblocks.1."
    folds = [{k: v for k, v in f.items() if not k.startswith(gone)} for f in folds_of(FOLDS, size)]
    error = refusal(write_checkpoint(tmp_path, folds, size))
    assert error.code == "CHECKPOINT_KEYS" and f"{tower}.resblocks.1." in f"{error.what} "


def test_the_first_half_of_the_keys(tmp_path: Path) -> None:
    folds = folds_of(FOLDS)
    half = dict(list(folds[1].items())[: len(folds[1]) // 2])
    assert refusal(write_checkpoint(tmp_path, [folds[0], half])).code == "CHECKPOINT_KEYS"


def test_lora_on_other_layers_in_one_fold(tmp_path: Path) -> None:
    folds = folds_of(FOLDS)
    for part in ("w_lora_A", "w_lora_B"):
        del folds[1][f"{Q_PROJ}.{part}"]
    assert refusal(write_checkpoint(tmp_path, folds)).code == "CHECKPOINT_KEYS"


def test_folds_of_mixed_ranks(tmp_path: Path) -> None:
    size = Size(rank=4)
    folds = [fold_of(base_of(), 0), fold_of(base_of(), 1, size)]
    for rank in (2, 4):
        assert refusal(write_checkpoint(tmp_path, folds, r=rank)).code == "CHECKPOINT_SHAPES"


def test_folds_of_mixed_sizes(tmp_path: Path) -> None:
    folds = [folds_of(1)[0], folds_of(2, Size(width=128))[1]]
    assert refusal(write_checkpoint(tmp_path, folds)).code == "CHECKPOINT_SHAPES"


def test_sizes_that_no_clip_has(tmp_path: Path) -> None:
    for size in (Size(width=32), Size(patch=30)):
        assert refusal(write_checkpoint(tmp_path, folds_of(FOLDS, size), size)).code == "CHECKPOINT_SHAPES"


@pytest.mark.parametrize("content", [[1, 2], {"state": {}}, {"model": [1]}, {"model": {"ln_final.bias": 1.0}}, 3.5])
def test_files_that_hold_something_else(folder: Path, content: Any) -> None:
    write_fold(folder, 1, content)
    error = refusal(folder)
    assert error.code == "CHECKPOINT_KEYS" and "fold_1" in error.what


# ---------------------------------------------------------------- files that are damaged or dangerous


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_file_cut_short(folder: Path, kept: float) -> None:
    file = folder / "fold_1" / "best_both.pt"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    error = refusal(folder)
    assert error.code == "CHECKPOINT_UNREADABLE" and "fold_1/best_both.pt" in error.what


def test_a_folder_in_place_of_a_file(folder: Path) -> None:
    (folder / "fold_1" / "best_both.pt").unlink()
    (folder / "fold_1" / "best_both.pt").mkdir()
    assert refusal(folder).code == "CHECKPOINT_FOLDS"


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.place,)


def test_a_trap_is_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "trap")))
    assert (tmp_path / "trap").exists()


@pytest.mark.parametrize("where", ["beside", "inside", "instead"])
@pytest.mark.parametrize("form", ["torch.save", "torch.save, old form", "pickle"])
def test_code_in_a_pickle_does_not_run(folder: Path, tmp_path: Path, form: str, where: str) -> None:
    trap, state = Trap(tmp_path / "trap"), as_torch(folds_of(1)[0])
    content: Any = {
        "beside": {"model": state, "epoch": trap},
        "inside": {"model": state | {"ln_final.bias": trap}},
        "instead": trap,
    }[where]
    file = folder / "fold_1" / "best_both.pt"
    if form == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "torch.save")
    error = refusal(folder)
    assert error.code == ("CHECKPOINT_UNSAFE" if form == "torch.save" else "CHECKPOINT_UNREADABLE")
    assert "fold_1/best_both.pt" in error.what
    assert not (tmp_path / "trap").exists()


def test_code_put_into_a_whole_file_does_not_run(folder: Path, tmp_path: Path) -> None:
    """The pickle inside the archive is exchanged, all else is as torch wrote it."""
    file = folder / "fold_0" / "best_both.pt"
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (name,) = [n for n in parts if n.endswith("data.pkl")]
    parts[name] = pickle.dumps({"model": Trap(tmp_path / "trap")}, protocol=2)
    with zipfile.ZipFile(file, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    assert refusal(folder).code in ("CHECKPOINT_UNSAFE", "CHECKPOINT_UNREADABLE")
    assert not (tmp_path / "trap").exists()
