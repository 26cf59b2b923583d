"""A small release for tests that start and end servers; each starts its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from serving import Inputs, Serving, inputs_of

from noduleserve.ct.open_volume import open_volume
from noduleserve.ct.volume import Volume
from noduleserve.demo.phantom import make_phantom, write_dicom
from noduleserve.release import Release


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """One fold, no calibration."""
    pytest.importorskip("torch", reason="the release is exported with torch")
    from noduleserve.export.assemble import export_release
    from noduleserve.export.checkpoint import read_checkpoint
    from noduleserve.export.checkpoint.untrained import write_untrained_checkpoint
    from noduleserve.export.text.features import read_features

    folder = tmp_path_factory.mktemp("release")
    write_untrained_checkpoint(folder / "checkpoint", seed=5, folds=1)
    checkpoint = read_checkpoint(folder / "checkpoint", lora_state="merged")
    return export_release(checkpoint, None, read_features(), folder / "release")


@pytest.fixture(scope="session")
def nodule(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A request's inputs."""
    phantom = make_phantom(shape_xyz=(96, 72, 60), spacing_xyz=(3.6, 3.6, 4.0))
    folder = tmp_path_factory.mktemp("phantom")
    write_dicom(phantom, folder)
    volume: Volume = open_volume(folder)
    return inputs_of(volume, phantom.nodules[0].center_lps)


@pytest.fixture
def serve(release: Release, tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts servers of the release; those that still run at the end are ended."""
    with ExitStack() as servers:

        def start(*options: object, **more: Any) -> Serving:
            folder = tmp_path / f"server-{len(list(tmp_path.iterdir()))}"
            return servers.enter_context(Serving(release.folder, folder, *options, **more))

        yield start
