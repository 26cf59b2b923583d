"""Reading the published checkpoint layout: args.txt and fold_K/best_both.pt."""

from __future__ import annotations

import ast
import hashlib
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from noduleserve.errors import CheckpointError

from . import lora
from .layout import LEFT_BY_TRAINING, Dimensions, check_state
from .weights import Checkpoint, State


def read_published(
    folder: Path,
    *,
    lora_state: Literal["auto", "merged", "unmerged"] = "auto",
    base: Path | None = None,
    reproduce_published: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Checkpoint:
    """Read, check and merge a checkpoint in the published layout; see `read_checkpoint`.

    Args:
        folder: holds args.txt and fold_0, fold_1, ...
        lora_state: whether `weight` holds its LoRA update; `auto` finds out or refuses.
        base: weights before fine-tuning, {"model": state} or a state by the published keys; helps `auto` decide
            where there is one fold only.
        reproduce_published: add fold 0's update a second time, as the published evaluation script does.
        tell: is called with a line of progress before each long step.

    Raises:
        CheckpointError: says what is wrong with which file.
    """
    args = read_args(folder)
    files = _fold_files(folder, args)
    states, sha256 = [], {"args.txt": _sha256(folder / "args.txt")}
    for file in files:
        where = file.relative_to(folder).as_posix()
        tell(f"reading {where}")
        states.append(_read_state(file, where))
        sha256[where] = _sha256(file)
    dimensions = Dimensions.of(states[0], files[0].relative_to(folder).as_posix())
    for file, state in zip(files, states, strict=True):
        check_state(state, dimensions, args["r"], file.relative_to(folder).as_posix())
    _same_lora_layers(states)
    scale = lora.scaling(args["r"], args["alpha"])
    decided_by = "--lora-state"
    if lora_state == "auto":
        tell("finding out whether LoRA is merged")
        base_state = _read_base(base, states[0]) if base else None
        lora_state, decided_by = lora.detect_state(states, scale, base_state), "base" if base else "folds"
    merged = tuple(
        lora.merged_state(state, scale, lora_state, twice=reproduce_published and fold == 0)
        for fold, state in enumerate(states)
    )
    updates = tuple(lora.updates_of(state, scale) for state in states)
    return Checkpoint(
        folds=merged,
        dimensions=dimensions,
        args=args,
        layout="published",
        tuning="lora",
        lora_state=lora_state,
        decided_by=decided_by,
        reproduces_published=reproduce_published,
        sha256=sha256,
        updates=updates,
        base=lora.base_of(states[0], scale, lora_state),
    )


def read_args(folder: Path) -> dict[str, Any]:
    """What args.txt says: one line `Namespace(key=value, ...)`, read as literals and never evaluated.

    Raises:
        CheckpointError: CHECKPOINT_NOT_FOUND, CHECKPOINT_ARGS, CHECKPOINT_TUNING.
    """
    try:
        content = (folder / "args.txt").read_bytes()
    except OSError:
        raise CheckpointError(
            "CHECKPOINT_NOT_FOUND",
            f"There is no args.txt in {folder}.",
            "Name the folder that holds args.txt and fold_0, fold_1, ...",
        ) from None
    try:
        call = ast.parse(content.decode().strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args or ast.unparse(call.func) != "Namespace":
            raise ValueError("it is not Namespace(key=value, ...)")
        args = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:  # what `ast` may raise
        raise CheckpointError("CHECKPOINT_ARGS", f"args.txt cannot be read: {error}.") from None
    missing = [key for key in ("n_splits", "tuning", "r", "alpha") if key not in args]
    if missing:
        raise CheckpointError("CHECKPOINT_ARGS", f"args.txt does not give {', '.join(missing)}.")
    if args["tuning"] != "lora":
        raise CheckpointError(
            "CHECKPOINT_TUNING",
            f"args.txt says tuning={args['tuning']!r}; only 'lora' checkpoints are read so far.",
            "Export a checkpoint that was fine-tuned with LoRA.",
        )
    for key in ("n_splits", "r"):
        if type(args[key]) is not int or args[key] < 1:
            raise CheckpointError("CHECKPOINT_ARGS", f"args.txt says {key}={args[key]!r}, which is not a count.")
    if type(args["alpha"]) not in (int, float) or not math.isfinite(args["alpha"]):
        raise CheckpointError("CHECKPOINT_ARGS", f"args.txt says alpha={args['alpha']!r}, which is not a number.")
    return args


def _fold_files(folder: Path, args: dict[str, Any]) -> list[Path]:
    files = [folder / f"fold_{k}" / "best_both.pt" for k in range(args["n_splits"])]
    missing = [f.relative_to(folder).as_posix() for f in files if not f.is_file()]
    if missing:
        raise CheckpointError(
            "CHECKPOINT_FOLDS",
            f"args.txt says n_splits={args['n_splits']}, but {', '.join(missing)} is not there.",
            "Copy the missing folds; an ensemble of fewer folds than were trained would give other scores.",
        )
    extra = sorted(p.name for p in folder.glob("fold_*") if p.is_dir() and p / "best_both.pt" not in files)
    if extra:
        raise CheckpointError(
            "CHECKPOINT_FOLDS",
            f"args.txt says n_splits={args['n_splits']}, but there is {', '.join(extra)} as well.",
            "Put n_splits right or take the extra folds away.",
        )
    return files


def _read_base(file: Path, fold: State) -> State:
    """Read the weights before fine-tuning: those of the layers that carry LoRA must be there."""
    state = _read_state(file, file.name, bare=True)
    for key in (f"{layer}.weight" for layer in lora.lora_layers(fold)):
        if key not in state:
            raise CheckpointError("CHECKPOINT_KEYS", f"{file.name} has no {key}.", "Name the base of this checkpoint.")
        if state[key].shape != fold[key].shape:
            shapes = f"{list(state[key].shape)}, not {list(fold[key].shape)}"
            raise CheckpointError("CHECKPOINT_SHAPES", f"{file.name}: {key} has the shape {shapes}.")
    return state


def _read_state(file: Path, where: str, *, bare: bool = False) -> State:
    """Read one file without running any code that a pickle may hold; where `bare`, a state without "model" will do."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "CHECKPOINT_UNSAFE",
            f"{where} holds more than tensors, and opening it could run code: {str(error).splitlines()[0][:200]}",
            'Save it again as {"model": state_dict} where you trust it.',
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(
            "CHECKPOINT_UNREADABLE",
            f"{where} cannot be read: {reason}.",
            "Copy the file again; it may be cut short.",
        ) from None
    state = content.get("model", content if bare else None) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise CheckpointError("CHECKPOINT_KEYS", f'{where} is not {{"model": state_dict}}.')
    wrong = [key for key, tensor in state.items() if tensor.dtype != torch.float32]
    if wrong:
        raise CheckpointError(
            "CHECKPOINT_DTYPE",
            f"{where}: {wrong[0]} is {state[wrong[0]].dtype}, not float32.",
            "Save the weights in float32; rounding them is the export's decision.",
        )
    arrays = {key: tensor.numpy() for key, tensor in state.items() if key not in LEFT_BY_TRAINING}
    if arrays.get("logit_scale", np.empty(())).shape == (1,):  # files hold it with one axis or with none
        arrays["logit_scale"] = arrays["logit_scale"].reshape(())
    return arrays


def _same_lora_layers(states: list[State]) -> None:
    first = lora.lora_layers(states[0])
    if not first or any(lora.lora_layers(state) != first for state in states[1:]):
        raise CheckpointError(
            "CHECKPOINT_KEYS",
            "args.txt says tuning='lora', but the folds do not carry LoRA updates on the same layers.",
            "All folds must come from one training run.",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
