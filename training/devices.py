"""What computes: a GPU where there is one, or the CPU with so many threads."""

from __future__ import annotations

import torch

from noduleserve.errors import TrainingError


def device_of(name: str) -> torch.device:
    """A device by its name: auto, cpu, cuda or cuda:NUMBER; auto takes a GPU where one is.

    Raises:
        TrainingError: DEVICE_ABSENT.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    known = name in ("cpu", "cuda") or (kind == "cuda" and number.isdecimal())
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not known or int(number or 0) >= count:
        raise TrainingError("DEVICE_ABSENT", f"There is no device {name!r} here.", "Give cpu, cuda, or cuda:NUMBER.")
    return torch.device(name)


def use_threads(number: int) -> None:
    """Let torch compute with that many threads of the CPU; 0 leaves it its own choice."""
    if number:
        torch.set_num_threads(number)


def has_bfloat16(device: torch.device) -> bool:
    """Whether to compute in bfloat16: on a GPU that has it, and nowhere else."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def name_of(device: torch.device) -> str:
    """What it is, for the record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
