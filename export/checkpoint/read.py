"""One door for every layout: looks at what the folder holds, hands it to the layout's reader, and merges LoRA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from noduleserve.errors import CheckpointError

from . import arguments, lora, model_json
from .layout import is_text, weights_of
from .published import read_base_file, read_published
from .weights import Checkpoint, Contents, LoraState, Part, State, Update

Asked = Literal["auto", "merged", "unmerged"]


def read_checkpoint(
    folder: Path,
    *,
    lora_state: Asked = "auto",
    base: Path | None = None,
    reproduce_published: bool = False,
    part: Part = "all",
    tell: Callable[[str], None] = lambda _: None,
) -> Checkpoint:
    """Read, check and merge a checkpoint.

    Args:
        folder: holds fold_0, fold_1, ... and args.txt (published layout) or model.json (open_clip + PEFT).
        lora_state: whether `weight` holds its LoRA update; `auto` finds out or refuses.
        base: weights before fine-tuning, {"model": state} or a state by the published keys; helps `auto` decide
            where there is one fold only.
        reproduce_published: add fold 0's update a second time, as the published evaluation script does.
        part: `text` reads what a text bank is made of and leaves the rest out of `folds`.
        tell: is called with a line of progress before each long step.

    Raises:
        CheckpointError: says what is wrong with which file.
    """
    contents = read_contents(folder, part=part, tell=tell)
    return merge(
        contents, lora_state=lora_state, base=base, reproduce_published=reproduce_published, part=part, tell=tell
    )


def read_contents(folder: Path, *, part: Part = "all", tell: Callable[[str], None] = lambda _: None) -> Contents:
    """Read and check what the files hold, and merge nothing.

    Raises:
        CheckpointError: CHECKPOINT_LAYOUT where the folder has the files of two layouts, CHECKPOINT_NOT_FOUND where
            of none; else what is wrong with which file.
    """
    published, peft = ((folder / name).exists() for name in (arguments.FILE, model_json.FILE))
    if published and peft:
        raise CheckpointError(
            "CHECKPOINT_LAYOUT",
            f"There is an {arguments.FILE} in {folder} and a {model_json.FILE} as well.",
            "A folder holds one checkpoint in one layout: take the files of the other away.",
        )
    if not published and not peft:
        raise CheckpointError(
            "CHECKPOINT_NOT_FOUND",
            f"There is neither an {arguments.FILE} nor a {model_json.FILE} in {folder}.",
            "Name the folder that holds one of them beside fold_0, fold_1, ...",
        )
    if published:
        return read_published(folder, part, tell)
    from .open_clip_peft import read_open_clip_peft  # brings PEFT, which takes seconds

    return read_open_clip_peft(folder, part, tell)


def merge(
    contents: Contents,
    *,
    lora_state: Asked = "auto",
    base: Path | None = None,
    reproduce_published: bool = False,
    part: Part = "all",
    tell: Callable[[str], None] = lambda _: None,
) -> Checkpoint:
    """Add every LoRA update exactly once; the arguments are those of `read_checkpoint`.

    Raises:
        CheckpointError: LORA_STATE_UNDECIDABLE, LORA_STATE_WRONG; those of reading `base`.
    """
    folds = [weights_of(state) for state in contents.folds]
    updates = contents.updates
    if part == "text":
        folds = [{key: value for key, value in fold.items() if is_text(key)} for fold in folds]
        updates = tuple({layer: u for layer, u in fold.items() if is_text(layer)} for fold in updates)
    state, decided_by = decide(contents, folds, updates, lora_state, base, tell)
    shared = contents.base
    if state:
        pairs = zip(folds, updates, strict=True)
        shared = shared or lora.base_of(folds[0], updates[0], state)
        folds = [
            lora.merged_state(fold, own, state, twice=reproduce_published and number == 0)
            for number, (fold, own) in enumerate(pairs)
        ]
    return Checkpoint(
        folds=tuple(folds),
        dimensions=contents.dimensions,
        args=contents.args,
        layout=contents.layout,
        tuning=contents.tuning,
        lora_state=state,
        decided_by=decided_by,
        reproduces_published=reproduce_published,
        sha256=contents.sha256,
        updates=updates,
        base={layer: weight for layer, weight in shared.items() if updates and layer in updates[0]},
    )


def decide(
    contents: Contents,
    folds: Sequence[State],
    updates: Sequence[Mapping[str, Update]],
    asked: Asked = "auto",
    base: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[LoraState | None, str]:
    """Whether the weights hold their update, and what decided it; None where there is none to hold.

    Args:
        contents: the checkpoint.
        folds: its weights, or the part of them that matters.
        updates: of each fold, of the same part.
        asked: by the user.
        base: see `read_checkpoint`.
        tell: see `read_checkpoint`.

    Raises:
        CheckpointError: LORA_STATE_UNDECIDABLE, LORA_STATE_WRONG; those of reading `base`.
    """
    known = contents.lora_state
    if asked != "auto" and (contents.tuning != "lora" or known not in (None, asked)):
        what = f"LoRA of the checkpoint is {known}" if known else f"The checkpoint has tuning {contents.tuning!r}"
        raise CheckpointError(
            "LORA_STATE_WRONG", f"{what}, as its layout says, and is not {asked}.", "Leave --lora-state out."
        )
    if contents.tuning != "lora" or not any(updates):
        return None, "layout"
    if known:
        return known, "layout"
    if asked != "auto":
        return asked, "--lora-state"
    tell("finding out whether LoRA is merged")
    state = lora.detect_state(folds, updates, read_base_file(base, dict(folds[0])) if base else None)
    return state, "base" if base else "folds"
