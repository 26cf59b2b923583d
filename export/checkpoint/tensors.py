"""Files of tensors: opened without running anything that may be in them, and paged in only as far as they are used."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from noduleserve.errors import CheckpointError

from .weights import State

Tensors = dict[str, torch.Tensor]


def read_pickled(file: Path, where: str) -> Any:
    """Open a file of `torch.save`, memory-mapped, with no object in it but tensors and plain containers.

    Raises:
        CheckpointError: CHECKPOINT_UNSAFE, CHECKPOINT_UNREADABLE.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "CHECKPOINT_UNSAFE",
            f"{where} holds more than tensors, and opening it could run code: {str(error).splitlines()[0][:200]}",
            'Save it again as {"model": state_dict} where you trust it.',
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise unreadable(where, error) from None


def read_safetensors(file: Path, where: str) -> Tensors:
    """Open a .safetensors file, memory-mapped.

    Raises:
        CheckpointError: CHECKPOINT_UNREADABLE.
    """
    try:
        return load_file(file)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise unreadable(where, error) from None


def float32_state(tensors: Mapping[str, Any], where: str) -> State:
    """Tensors as arrays, not copied.

    Raises:
        CheckpointError: CHECKPOINT_KEYS where there is more than tensors, CHECKPOINT_DTYPE.
    """
    if not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise CheckpointError("CHECKPOINT_KEYS", f'{where} is not {{"model": state_dict}}.')
    for key, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise CheckpointError(
                "CHECKPOINT_DTYPE",
                f"{where}: {key} is {tensor.dtype}, not float32.",
                "Save the weights in float32; rounding them is the export's decision.",
            )
    return {key: tensor.numpy() for key, tensor in tensors.items()}


def same_bits(a: NDArray, b: NDArray) -> bool:
    """Whether two arrays agree bit for bit; unlike ==, this tells 0 from -0 and NaN from NaN."""
    if a is b:
        return True
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(np.array_equal(a.view(f"i{a.itemsize}"), b.view(f"i{b.itemsize}")))


def share(states: Iterable[State], keys: Iterable[str]) -> None:
    """Let states that hold the same bits under a key hold the same array, so that memory is needed for it once."""
    first, *others = states
    for key in keys:
        for state in others:
            if key in first and key in state and same_bits(first[key], state[key]):
                state[key] = first[key]


def sha256_of(files: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of files, several at a time."""

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor() as pool:
        return dict(zip(files, pool.map(digest, files.values()), strict=True))


def unreadable(where: str, error: Exception) -> CheckpointError:
    """The refusal of a damaged file."""
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return CheckpointError(
        "CHECKPOINT_UNREADABLE", f"{where} cannot be read: {reason}.", "Copy the file again; it may be cut short."
    )
