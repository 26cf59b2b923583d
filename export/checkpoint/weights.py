"""What a checkpoint is: what its files hold, and the model they make once LoRA has been added exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .layout import Dimensions

State = dict[str, NDArray[np.float32]]
LoraState = Literal["merged", "unmerged"]
Tuning = Literal["lora", "ft", "pt"]
Layout = Literal["published", "open_clip+peft"]
Part = Literal["all", "text"]


@dataclass(frozen=True, eq=False)
class Update:
    """The low-rank update of one layer: `scale * b @ a` is added to its weight.

    Attributes:
        a: float32 [r, in].
        b: float32 [out, r].
        scale: alpha / sqrt(r) where rank-stabilised, else alpha / r.
        alpha: what the training was given; None where only the scale is known.
        rank_stabilised: `use_rslora` in PEFT.
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float
    alpha: float | None = None
    rank_stabilised: bool = True

    @property
    def rank(self) -> int:
        """Rows of `a`."""
        return self.a.shape[0]


@dataclass(frozen=True, eq=False)
class Contents:
    """What a checkpoint's files hold, whatever the layout, spelt in the keys of the published one; nothing is merged.

    Attributes:
        folds: every tensor of each fold, with A and B of LoRA and what the losses left behind. A tensor that is the
            same in several folds, bit for bit, is one array.
        dimensions: sizes of the towers and heads.
        args: what the training was given.
        args_text: args.txt to the letter; None where there never was one.
        layout: of the files.
        tuning: how it was trained.
        updates: the LoRA updates of each fold by layer; an empty tuple where there is no LoRA.
        sha256: of each file, by its path in the checkpoint.
        lora_state: whether `weight` holds its update; None where the layout does not tell.
        base: the weights of the layers that carry LoRA before any update, where the layout tells.
    """

    folds: tuple[State, ...]
    dimensions: Dimensions
    args: dict[str, Any]
    args_text: str | None
    layout: Layout
    tuning: Tuning
    updates: tuple[dict[str, Update], ...]
    sha256: dict[str, str]
    lora_state: LoraState | None = None
    base: State = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A fine-tuned model, every fold with its LoRA update added exactly once.

    Attributes:
        folds: plain weights of each fold by the published keys, float32; of the text tower and its head only, where
            only that part was read.
        dimensions: sizes of the towers and heads.
        args: what args.txt (or model.json) says of the training.
        layout: `published` or `open_clip+peft`.
        tuning: `lora`, `ft` (every weight trained) or `pt` (towers as pretrained).
        lora_state: of the files, `merged` or `unmerged`; None where there is no LoRA.
        decided_by: `folds`, `base`, `--lora-state`, or `layout` where the layout leaves no doubt.
        reproduces_published: whether fold 0 carries its update twice, as in the published evaluation script.
        sha256: of each file, by its path in the checkpoint.
        updates: the LoRA updates of each fold by layer; an empty tuple where there is no LoRA.
        base: the weights of the layers that carry LoRA before any update, shared by the folds; `base + update` is the
            fold's weight but for rounding. Empty where there is no LoRA.
    """

    folds: tuple[State, ...]
    dimensions: Dimensions
    args: dict[str, Any]
    layout: str
    tuning: Tuning
    lora_state: LoraState | None
    decided_by: str
    reproduces_published: bool
    sha256: dict[str, str]
    updates: tuple[Mapping[str, Update], ...] = ()
    base: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
