"""A small checkpoint of two folds that can encode text, ready to be exported."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from small_model import ALL_TOKENS, Size, folds_of, write_checkpoint

from noduleserve.export.checkpoint import Checkpoint, read_checkpoint
from noduleserve.export.text.features import Features


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small models are slower, not faster, on several threads where something else runs beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SIZE = Size(layers=1, text_layers=1, tokens=ALL_TOKENS)


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("small") / "checkpoint"
    return read_checkpoint(write_checkpoint(folder, folds_of(2, SIZE), SIZE))


@pytest.fixture(scope="session")
def small_features() -> Features:
    return Features({"shape": {"round": ("a round nodule", "a ball"), 'ov"al\\': ("an oval nodule",)}})


@pytest.fixture(scope="session")
def small_calibration() -> list[dict[str, float]]:
    return [{"a": 0.6, "b": 0.9, "c": -0.7}, {"a": 1.0, "b": 1.1, "c": 0.2}]
