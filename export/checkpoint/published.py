"""Reading the published checkpoint layout: args.txt and fold_K/best_both.pt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from noduleserve.errors import CheckpointError

from . import arguments, lora
from .arguments import read_args, read_text
from .layout import Dimensions, check_model, check_state, is_text, weights_of
from .tensors import float32_state, read_pickled, sha256_of, share
from .weights import Contents, Part, State, Tuning, Update


def read_published(folder: Path, part: Part = "all", tell: Callable[[str], None] = lambda _: None) -> Contents:
    """Read and check a checkpoint in the published layout.

    Args:
        folder: holds args.txt and fold_0, fold_1, ...
        part: `text` looks at the numbers of the text tower and its head only.
        tell: is called with a line of progress before each long step.

    Raises:
        CheckpointError: says what is wrong with which file.
    """
    args = read_args(folder)
    files = _fold_files(folder, args["n_splits"])
    states: list[State] = []
    for where, file in files.items():
        tell(f"reading {where}")
        states.append(_read_state(file, where))
        share((states[0], states[-1]), [k for k in states[-1] if part == "all" or is_text(k)])
    first = weights_of(states[0])
    dimensions = Dimensions.of(first, next(iter(files)))
    rank = args["r"] if args["tuning"] == "lora" else None
    for number, (where, state) in enumerate(zip(files, states, strict=True)):
        checked = first if number else None
        check_state(weights_of(state), dimensions, rank, where, like=checked, text_only=part == "text")
    check_model(dimensions, args, next(iter(files)))
    updates = _updates(states, args, list(files))
    tell("hashing the files")
    return Contents(
        folds=tuple(states),
        dimensions=dimensions,
        args=args,
        args_text=read_text(folder),
        layout="published",
        tuning=args["tuning"],
        updates=updates,
        sha256=sha256_of({arguments.FILE: folder / arguments.FILE} | files),
    )


def read_base_file(file: Path, fold: State) -> State:
    """Read the weights before fine-tuning: those of the layers that carry LoRA must be there.

    Args:
        file: {"model": state} or a state by the published keys.
        fold: the state of a fold.

    Raises:
        CheckpointError: those of `read_pickled`, CHECKPOINT_KEYS, CHECKPOINT_SHAPES, CHECKPOINT_DTYPE.
    """
    state = _read_state(file, file.name, bare=True)
    for key in (f"{layer}.weight" for layer in lora.lora_layers(fold)):
        if key not in state:
            raise CheckpointError("CHECKPOINT_KEYS", f"{file.name} has no {key}.", "Name the base of this checkpoint.")
        if state[key].shape != fold[key].shape:
            shapes = f"{list(state[key].shape)}, not {list(fold[key].shape)}"
            raise CheckpointError("CHECKPOINT_SHAPES", f"{file.name}: {key} has the shape {shapes}.")
    return state


def _fold_files(folder: Path, folds: int) -> dict[str, Path]:
    files = {f"fold_{k}/best_both.pt": folder / f"fold_{k}" / "best_both.pt" for k in range(folds)}
    missing = [where for where, file in files.items() if not file.is_file()]
    if missing:
        raise CheckpointError(
            "CHECKPOINT_FOLDS",
            f"args.txt says n_splits={folds}, but {', '.join(missing)} is not there.",
            "Copy the missing folds; an ensemble of fewer folds than were trained would give other scores.",
        )
    extra = sorted(p.name for p in folder.glob("fold_*") if p.is_dir() and f"{p.name}/best_both.pt" not in files)
    if extra:
        raise CheckpointError(
            "CHECKPOINT_FOLDS",
            f"args.txt says n_splits={folds}, but there is {', '.join(extra)} as well.",
            "Put n_splits right or take the extra folds away.",
        )
    return files


def _read_state(file: Path, where: str, *, bare: bool = False) -> State:
    """Read one file; where `bare`, a state without "model" will do."""
    content = read_pickled(file, where)
    state = content.get("model", content if bare else None) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError("CHECKPOINT_KEYS", f'{where} is not {{"model": state_dict}}.')
    return float32_state(state, where)


def _updates(states: list[State], args: dict[str, Any], files: list[str]) -> tuple[dict[str, Update], ...]:
    """The LoRA updates of each fold; where there must be none, there is none."""
    tuning: Tuning = args["tuning"]
    layers = [lora.lora_layers(state) for state in states]
    if tuning != "lora":
        for where, found in zip(files, layers, strict=True):
            if found:
                raise CheckpointError(
                    "CHECKPOINT_TUNING",
                    f"args.txt says tuning={tuning!r}, but {where} carries a LoRA update on {found[0]}.",
                    "Put tuning in args.txt right, or the files.",
                )
        return ()
    if not layers[0] or any(found != layers[0] for found in layers[1:]):
        raise CheckpointError(
            "CHECKPOINT_KEYS",
            "args.txt says tuning='lora', but the folds do not carry LoRA updates on the same layers.",
            "All folds must come from one training run.",
        )
    return tuple(lora.updates_of(state, args["alpha"]) for state in states)
