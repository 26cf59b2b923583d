"""A TensorRT that builds without a GPU, and a small release of target `tensorrt` to build from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from small_model import Size, folds_of, plain_of
from tensorrt_links import link_tensorrt

from noduleserve.release import REPOSITORY, Release, seal

SIZE = Size(layers=1)


@pytest.fixture(scope="session")
def links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for sys.path, PYTHONPATH or LD_LIBRARY_PATH."""
    try:
        return link_tensorrt(tmp_path_factory.mktemp("tensorrt"))
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def trt(links: Path) -> Iterator[ModuleType]:
    """NVIDIA's TensorRT API in this process."""
    from noduleserve.engines.machine import import_tensorrt

    sys.path.insert(0, str(links))
    yield import_tensorrt()
    sys.path.remove(str(links))


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes an encoder graph of two small folds in a precision, once, and says where."""
    pytest.importorskip("torch")
    from noduleserve.export.checkpoint.layout import Dimensions
    from noduleserve.export.encoder.encoder_graph import build_encoder
    from noduleserve.export.encoder.identity import encoder_id, stamp
    from noduleserve.export.encoder.save import save_model

    folder = tmp_path_factory.mktemp("graphs")
    folds = [plain_of(fold, SIZE) for fold in folds_of(2, SIZE)]

    def graph(precision: Any, **how: Any) -> Path:
        path = folder / f"{precision}{how or ''}" / "encoder.onnx"
        if not path.exists():
            path.parent.mkdir()
            model = build_encoder(folds, Dimensions.of(folds[0], "a fold"), precision)
            stamp(model, encoder_id(model, tag=precision))
            save_model(model, path, **how)
        return path

    return graph


@pytest.fixture(scope="session")
def make_release(graphs: Callable[..., Path]) -> Callable[..., Release]:
    """Seals a release around a graph: what this room looks at, without the text bank and the proof."""
    from noduleserve.export.repository import write_repository

    facts = {"folds": 2, "calibrated": False, "labels": ["round"], "notice": "", "preprocessing": 1}

    def make(folder: Path, precision: str = "fp16", target: str = "tensorrt") -> Release:
        write_repository(folder / REPOSITORY, facts, SIZE.out, target)
        for model in (folder / REPOSITORY).iterdir():
            (model / "1" / "part.txt").write_text(model.name)
        if target == "tensorrt":
            (folder / "engine").mkdir()
            (folder / "engine" / "encoder.onnx").write_bytes(graphs(precision).read_bytes())
        return seal(folder, facts | {"target": target, "precision": precision, "created": "2026-01-01T00:00:00+00:00"})

    return make


@pytest.fixture(scope="session")
def release(make_release: Callable[..., Release], tmp_path_factory: pytest.TempPathFactory) -> Release:
    return make_release(tmp_path_factory.mktemp("release") / "may")
