"""args.txt of the published layout: one line `Namespace(key=value, ...)`, read as literals and never evaluated."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

from noduleserve.errors import CheckpointError

FILE = "args.txt"


def read_args(folder: Path) -> dict[str, Any]:
    """What args.txt says.

    Raises:
        CheckpointError: CHECKPOINT_NOT_FOUND, and those of `parse_args`.
    """
    return parse_args(read_text(folder))


def read_text(folder: Path) -> str:
    """The text of args.txt, to the letter.

    Raises:
        CheckpointError: CHECKPOINT_NOT_FOUND, CHECKPOINT_ARGS.
    """
    try:
        return (folder / FILE).read_bytes().decode()
    except OSError:
        raise CheckpointError(
            "CHECKPOINT_NOT_FOUND",
            f"There is no {FILE} in {folder}.",
            f"Name the folder that holds {FILE} and fold_0, fold_1, ...",
        ) from None
    except ValueError as error:
        raise CheckpointError("CHECKPOINT_ARGS", f"{FILE} cannot be read: {error}.") from None


def parse_args(text: str) -> dict[str, Any]:
    """Read the text of an args.txt.

    Raises:
        CheckpointError: CHECKPOINT_ARGS, CHECKPOINT_TUNING.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args or ast.unparse(call.func) != "Namespace":
            raise ValueError("it is not Namespace(key=value, ...)")
        args = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:  # what `ast` may raise
        raise CheckpointError("CHECKPOINT_ARGS", f"{FILE} cannot be read: {error}.") from None
    _require(args, "n_splits", "tuning")
    require_tuning(args["tuning"], FILE)
    require_count(args, "n_splits", FILE)
    if args["tuning"] == "lora":
        _require(args, "r", "alpha")
        require_count(args, "r", FILE)
        if type(args["alpha"]) not in (int, float) or not math.isfinite(args["alpha"]):
            raise CheckpointError("CHECKPOINT_ARGS", f"{FILE} says alpha={args['alpha']!r}, which is not a number.")
    return args


def text_of(args: dict[str, Any]) -> str:
    """The args.txt that says what `args` says."""
    return "Namespace(" + ", ".join(f"{key}={value!r}" for key, value in args.items()) + ")"


def require_tuning(tuning: Any, where: str) -> None:
    """Refuse a way of tuning that nothing is known of (CHECKPOINT_TUNING)."""
    if tuning not in ("lora", "ft", "pt"):
        raise CheckpointError(
            "CHECKPOINT_TUNING",
            f"{where} says tuning={tuning!r}; 'lora', 'ft' and 'pt' checkpoints are read.",
            "Export a checkpoint that was fine-tuned in one of these ways.",
        )


def require_count(args: dict[str, Any], key: str, where: str) -> None:
    """Refuse what is no whole number from 1 on (CHECKPOINT_ARGS)."""
    if type(args[key]) is not int or args[key] < 1:
        raise CheckpointError("CHECKPOINT_ARGS", f"{where} says {key}={args[key]!r}, which is not a count.")


def _require(args: dict[str, Any], *keys: str) -> None:
    if missing := [key for key in keys if key not in args]:
        raise CheckpointError("CHECKPOINT_ARGS", f"{FILE} does not give {', '.join(missing)}.")
