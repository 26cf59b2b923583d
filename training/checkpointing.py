"""A training between two epochs, as files: what it is a training of, and the state of each fold.

    WORK/run.json       what identifies the training: recipe, data, towers
    WORK/fold_K.pt      the fold's state after its last whole epoch; its best weights alone once it is finished

Random numbers have no state to keep: every draw has a stream that seed, fold, epoch and place name.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from noduleserve.errors import TrainingError
from noduleserve.export.checkpoint.tensors import read_pickled

from .fit import State

_RUN, _FORMAT = "run.json", 1


class Work:
    """The folder of a training that is not finished."""

    def __init__(self, folder: Path, identity: dict[str, Any], *, resume: bool) -> None:
        """Make the folder, or open it again.

        Args:
            folder: beside the checkpoint that it will become.
            identity: of the training, for JSON.
            resume: go on with what is there.

        Raises:
            TrainingError: TRAINING_STARTED where there is one and it is not to be resumed, RESUME_NOTHING where there
                is none, RESUME_MISMATCH where it is another training.
        """
        self.folder = folder
        file = folder / _RUN
        own = json.loads(json.dumps({"format": _FORMAT} | identity))
        if resume:
            _require_same(file, own)
            return
        if file.exists():
            raise TrainingError(
                "TRAINING_STARTED",
                f"{folder.name} holds a training that was not finished.",
                "Go on with it by --resume, or remove the folder.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        _replace(file, lambda part: part.write_text(json.dumps(own, indent=1) + "\n"))

    def load(self, fold: int) -> State | None:
        """The state of a fold; None where it was not begun.

        Raises:
            TrainingError: RESUME_UNREADABLE.
        """
        file = self._file(fold)
        if not file.exists():
            return None
        content = read_pickled(file, file.name)
        if not isinstance(content, dict) or content.keys() != {field.name for field in fields(State)}:
            raise TrainingError(
                "RESUME_UNREADABLE", f"{file.name} holds no state of a fold.", "Remove it; the fold begins again."
            )
        return State(**content)

    def save(self, fold: int, state: State, *, finished: bool) -> None:
        """Keep a state; the file is the old one or the new one, whenever this is interrupted."""
        content = {field.name: getattr(state, field.name) for field in fields(State)}
        if finished:
            content["stepper"] = content["teacher"] = {}
        _replace(self._file(fold), lambda part: torch.save(content, part))

    def remove(self) -> None:
        """Take the folder away, the training being finished."""
        for file in (*self.folder.glob("fold_*.pt"), self.folder / _RUN):
            file.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _file(self, fold: int) -> Path:
        return self.folder / f"fold_{fold}.pt"


def _require_same(file: Path, own: dict[str, Any]) -> None:
    if not file.is_file():
        raise TrainingError(
            "RESUME_NOTHING", f"There is no {file.parent.name}/{_RUN} to resume.", "Leave --resume out to begin."
        )
    try:
        there = json.loads(file.read_bytes())
    except ValueError as error:
        raise TrainingError("RESUME_UNREADABLE", f"{_RUN} cannot be read: {error}.", "Begin anew.") from None
    if other := sorted(key for key in own.keys() | there.keys() if own.get(key) != there.get(key)):
        raise TrainingError(
            "RESUME_MISMATCH",
            f"What was begun is another training: it differs in {', '.join(other)}.",
            "Give the same data, towers and recipe, or begin anew with another --out.",
        )


def _replace(file: Path, write: Any) -> None:
    part = file.with_suffix(".part")
    write(part)
    part.replace(file)
