"""Checkpoint in: every layout that fine-tuned weights come in, read, checked, and merged exactly once.

`weights` says what a checkpoint is; `read` takes a folder of any layout; `convert` goes from one layout to another.
"""

from .read import read_checkpoint
from .weights import Checkpoint, LoraState, State, Tuning, Update

__all__ = ["Checkpoint", "LoraState", "State", "Tuning", "Update", "read_checkpoint"]
