"""Reading the layout open_clip + PEFT: model.json, one base for all folds, and a PEFT adapter and heads a fold.

The folds are put together as the published layout would hold them, so that one reader of LoRA serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import CheckpointError

from . import lora
from .adapter import CONFIG, WEIGHTS, Adapter, read_adapter
from .base import cached_file, check_open_clip_model, read_base, require_quick_gelu
from .layout import Dimensions, check_model, check_state, is_text, weights_of
from .model_json import FILE, LAYOUT, ModelFile, args_of, read_model_file
from .rounding import restored
from .tensors import float32_state, read_safetensors, same_bits, sha256_of, share
from .weights import Contents, Part, State, Update

HEADS, ROUNDING = "heads.safetensors", "rounding.safetensors"


@dataclass(frozen=True, eq=False)
class _Base:
    state: State
    halves: bool
    files: dict[str, Path]


def read_open_clip_peft(folder: Path, part: Part = "all", tell: Callable[[str], None] = lambda _: None) -> Contents:
    """Read and check a checkpoint in the layout open_clip + PEFT.

    Args:
        folder: holds model.json and fold_0, fold_1, ...
        part: `text` looks at the numbers of the text tower and its head only.
        tell: is called with a line of progress before each long step.

    Raises:
        CheckpointError: says what is wrong with which file.
    """
    model = read_model_file(folder)
    args = args_of(model)
    _require_folds(folder, model.folds)
    tell("reading the base")
    base = _read_base(folder, model)
    files = {FILE: folder / FILE} | base.files
    lora_state = (model.lora_state or "unmerged") if model.tuning == "lora" else None
    states: list[State] = []
    updates: list[dict[str, Update]] = []
    before: dict[str, NDArray[np.float32] | None] = {}  # the weights of the first fold's adapted layers
    for number in range(model.folds):
        tell(f"reading fold_{number}")
        state, adapter = _read_fold(folder, number, base.state, model, part)
        files |= _fold_files(folder, number)
        if adapter:
            before = before or {layer: state.get(f"{layer}.weight") for layer in adapter.updates}
            _require_one_base(before, state, number)
            _add_lora(state, adapter, lora_state == "merged")
            _apply_rounding(folder / f"fold_{number}" / ROUNDING, number, state, adapter.updates)
            updates.append(adapter.updates)
        states.append(state)
        share((states[0], state), [k for k in state if part == "all" or is_text(k)])
    dimensions = _checked(states, updates, model, text_only=part == "text")
    check_model(dimensions, args, FILE)
    tell("hashing the files")
    return Contents(
        folds=tuple(states),
        dimensions=dimensions,
        args=args | ({"base_widened_from": "float16"} if base.halves else {}),
        args_text=model.args_txt,
        layout=LAYOUT,
        tuning=model.tuning,
        updates=tuple(updates),
        sha256=sha256_of(files),
        lora_state=lora_state,
        base={layer: weight for layer, weight in before.items() if weight is not None},
    )


def _require_folds(folder: Path, folds: int) -> None:
    there = {path.name for path in folder.glob("fold_*") if path.is_dir()}
    wanted = {f"fold_{number}" for number in range(folds)}
    for names, what in ((wanted - there, "is not there"), (there - wanted, "is there as well")):
        if names:
            raise CheckpointError(
                "CHECKPOINT_FOLDS",
                f"{FILE} says folds={folds}, but {', '.join(sorted(names))} {what}.",
                "An ensemble of fewer folds than were trained would give other scores: put the folder right.",
            )


def _read_base(folder: Path, model: ModelFile) -> _Base:
    if model.open_clip:
        require_quick_gelu(model.open_clip, model.pretrained, model.base)
    if model.base:
        name, file = model.base, folder / model.base
        if not file.is_file():
            raise CheckpointError("CHECKPOINT_NOT_FOUND", f"There is no {name}, which {FILE} names as its base.")
    elif model.open_clip and model.pretrained:
        name, file = f"open_clip:{model.open_clip}/{model.pretrained}", cached_file(model.open_clip, model.pretrained)
    else:
        return _Base({}, False, {})
    state, halves = read_base(file, name)
    return _Base(state, halves, {name: file})


def _read_fold(folder: Path, number: int, base: State, model: ModelFile, part: Part) -> tuple[State, Adapter | None]:
    """One fold without its LoRA: the base, under what the fold has of its own."""
    name, where = f"fold_{number}", f"fold_{number}/{HEADS}"
    file = folder / name / HEADS
    if not file.is_file():
        raise CheckpointError("CHECKPOINT_NOT_FOUND", f"There is no {where}.", "Copy the missing file.")
    heads = float32_state(read_safetensors(file, where), where)
    adapted = [file for file in (CONFIG, WEIGHTS, ROUNDING) if (folder / name / file).exists()]
    if model.tuning != "lora":
        if adapted:
            raise CheckpointError(
                "CHECKPOINT_TUNING",
                f"{FILE} says tuning={model.tuning!r}, but there is {name}/{adapted[0]}.",
                "Put tuning right, or the files.",
            )
        return base | heads, None
    if strange := [key for key in heads if ".w_lora_" in key]:
        raise CheckpointError("CHECKPOINT_KEYS", f"{where} has {strange[0]}; LoRA belongs in the adapter.")
    dimensions = Dimensions.of(base | heads, FILE)
    adapter = read_adapter(folder / name, name, dimensions, text_only=part == "text")
    if twice := sorted(adapter.saved.keys() & heads.keys()):
        raise CheckpointError("CHECKPOINT_KEYS", f"Both the adapter and {where} hold {twice[0]}.", "Take one away.")
    return base | heads | adapter.saved, adapter


def _require_one_base(first: Mapping[str, NDArray[np.float32] | None], state: State, number: int) -> None:
    """Refuse a fold whose adapter does not stand on the base that the first fold's stands on."""
    for layer, weight in first.items():
        own = state.get(f"{layer}.weight")
        if weight is not None and own is not None and not same_bits(weight, own):
            raise CheckpointError(
                "CHECKPOINT_KEYS",
                f"fold_{number} has another weight of {layer} under its adapter than fold_0.",
                "All folds must come from one training run, whose adapters stand on one base.",
            )


def _add_lora(state: State, adapter: Adapter, merged: bool) -> None:
    """Put A and B into a state, and the update into its weights where the published files had it there."""
    for layer, update in adapter.updates.items():
        weight = state.get(f"{layer}.weight")
        if weight is None:  # the check of the whole state says so, with every other key that is missing
            continue
        state[layer + lora.LORA_A], state[layer + lora.LORA_B] = update.a, update.b
        if merged and weight.shape == (update.b.shape[0], update.a.shape[1]):
            state[f"{layer}.weight"] = lora.add_update(weight, update)


def _apply_rounding(file: Path, number: int, state: State, updates: dict[str, Update]) -> None:
    if not file.exists():
        return
    where = f"fold_{number}/{ROUNDING}"
    tensors: dict[str, NDArray] = {key: t.numpy() for key, t in read_safetensors(file, where).items()}
    for layer in updates:
        key = f"{layer}.weight"
        try:
            state[key] = restored(key, np.ascontiguousarray(state[key]), tensors)
        except (ValueError, IndexError) as error:
            raise CheckpointError("ROUNDING_INVALID", f"{where}: {error}.", "Convert the checkpoint again.") from None


def _fold_files(folder: Path, number: int) -> dict[str, Path]:
    names = [f"fold_{number}/{file}" for file in (CONFIG, WEIGHTS, HEADS, ROUNDING)]
    return {name: folder / name for name in names if (folder / name).exists()}


def _checked(states: list[State], updates: list[dict[str, Update]], model: ModelFile, *, text_only: bool) -> Dimensions:
    """The sizes of the model, after looking at every fold."""
    weights = [weights_of(state) for state in states]
    dimensions = Dimensions.of(weights[0], FILE)
    if model.open_clip:
        check_open_clip_model(model.open_clip, dimensions, FILE)
    for number, state in enumerate(weights):
        where = f"fold_{number} with its base"
        check_state(state, dimensions, None, where, like=weights[0] if number else None, text_only=text_only)
    kinds = [{layer: (u.rank, u.scale) for layer, u in own.items()} for own in updates]
    if model.tuning == "lora" and not text_only and not any(kinds):
        raise CheckpointError("ADAPTER_KEYS", "The adapters change no layer.", "Name the tuning that it was.")
    if any(kind != kinds[0] for kind in kinds[1:]):
        raise CheckpointError(
            "ADAPTER_KEYS",
            "The folds' adapters are not of the same layers, ranks and scalings.",
            "All folds must come from one training run.",
        )
    return dimensions
