"""One door for every layout: looks at what the folder holds and hands it to the layout's reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from .published import read_published
from .weights import Checkpoint


def read_checkpoint(
    folder: Path,
    *,
    lora_state: Literal["auto", "merged", "unmerged"] = "auto",
    base: Path | None = None,
    reproduce_published: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Checkpoint:
    """Read, check and merge a checkpoint.

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
    return read_published(folder, lora_state=lora_state, base=base, reproduce_published=reproduce_published, tell=tell)
