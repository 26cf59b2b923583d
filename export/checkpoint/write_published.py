"""Writing the published layout: args.txt and fold_K/best_both.pt, which is {"model": state dict} and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noduleserve.errors import CheckpointError

from . import arguments
from .layout import KNOWN
from .weights import Contents


def write_published(contents: Contents, out: Path, tell: Callable[[str], None]) -> None:
    """Write a checkpoint's files into a folder that is there.

    Args:
        contents: the checkpoint.
        out: the folder.
        tell: is called with a line of progress before each long step.

    Raises:
        CheckpointError: CONVERT_UNSUPPORTED where LoRA is not of one rank and one rank-stabilised scaling, which is
            all that args.txt can say.
    """
    text = contents.args_text if contents.args_text is not None else arguments.text_of(_arguments(contents))
    _require_fits(contents, arguments.parse_args(text))
    (out / arguments.FILE).write_bytes(text.encode())
    for number, state in enumerate(contents.folds):
        tell(f"writing fold_{number}")
        folder = out / f"fold_{number}"
        folder.mkdir()
        tensors = {key: torch.from_numpy(np.asarray(value)).contiguous() for key, value in state.items()}
        torch.save({"model": tensors}, folder / "best_both.pt")


def _arguments(contents: Contents) -> dict[str, Any]:
    """What args.txt says of a checkpoint that never had one."""
    args: dict[str, Any] = {"n_splits": len(contents.folds), "tuning": contents.tuning}
    known = [name for name, size in KNOWN.items() if _towers(size) == _towers(contents.dimensions)]
    args |= {"model": f"openai_{known[0]}"} if known else {}
    if contents.updates:
        update = next(iter(contents.updates[0].values()))
        alpha = update.alpha
        args |= {"r": update.rank, "alpha": int(alpha) if alpha is not None and alpha == int(alpha) else alpha}
    return contents.args | args


def _towers(dimensions: Any) -> tuple[Any, ...]:
    return dimensions.image, dimensions.text, dimensions.patch, dimensions.embed


def _require_fits(contents: Contents, args: dict[str, Any]) -> None:
    for fold in contents.updates:
        for layer, update in fold.items():
            if not update.rank_stabilised or (update.rank, update.alpha) != (args["r"], args["alpha"]):
                raise CheckpointError(
                    "CONVERT_UNSUPPORTED",
                    f"LoRA on {layer} has r={update.rank}, alpha={update.alpha:g} and "
                    f"use_rslora={update.rank_stabilised}; the published layout has one r and one alpha for all "
                    "layers, scaled by alpha / sqrt(r).",
                    "Export from the layout that it is in.",
                )
