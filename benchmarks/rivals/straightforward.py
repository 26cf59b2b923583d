"""The method done straightforwardly: scipy, then PyTorch in eager mode, fold by fold and nodule by nodule.

What a careful person has after reading the method: models loaded once and kept, inference mode, all cores, float32.  It
shares no code with what Triton runs; hence it is the yardstick as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from noduleserve.errors import SeriesError
from noduleserve.export.checkpoint import Checkpoint, State, read_checkpoint
from noduleserve.export.checkpoint.clip_module import empty_clip
from noduleserve.export.checkpoint.clip_names import HEADS, packed
from noduleserve.export.checkpoint.layout import Dimensions

from .base import Case
from .cases import warm_up_case
from .missing import missing
from .scipy_method import cut_out, pixels_of, resampled, views_of_box, views_of_cube
from .started import InOneThread

T = TypeVar("T")
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Fold:
    """One fold of the model: CLIP's image tower as open_clip has it, the pooling of nine views, the classifier."""

    def __init__(self, state: State, dimensions: Dimensions, device: torch.device) -> None:
        clip = empty_clip(dimensions)
        clip.load_state_dict({key: _tensor(value) for key, value in packed(state).items()}, assign=True)
        self._tower = clip.visual.to(device)  # the text tower goes; it has no part in malignancy
        self._heads = {key: _tensor(value).to(device) for key, value in state.items() if key.startswith(HEADS)}

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Probability of cancer of nine views, [9, 3, 224, 224] normalised as CLIP wants them."""
        hidden = F.relu(self._linear("image_projection.projector.0", self._tower(pixels)))
        scores = self._linear("image_projection.attention.0", hidden).tanh()
        attention = self._linear("image_projection.attention.2", scores).softmax(dim=0)
        embedding = F.normalize((attention * hidden).sum(dim=0), dim=0)
        return self._linear("classifier_image", embedding).softmax(dim=-1)[1]

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._heads[f"{name}.weight"], self._heads[f"{name}.bias"])


class Folds:
    """Every fold of a checkpoint, loaded once; weights that folds share lie in memory once."""

    def __init__(self, checkpoint: Checkpoint, device: str | None = None) -> None:
        """Load them.

        Args:
            checkpoint: read and merged.
            device: of torch; by default its GPU where there is one.
        """
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._folds = [Fold(state, checkpoint.dimensions, self._device) for state in checkpoint.folds]
        shape = (1, 3, 1, 1)
        self._mean, self._std = (torch.tensor(v, device=self._device).reshape(shape) for v in (CLIP_MEAN, CLIP_STD))

    @torch.inference_mode()
    def __call__(self, views: NDArray[np.float32]) -> NDArray[np.float64]:
        """Each fold's probability of cancer [F] of nine views [9, 50, 50]."""
        gray = torch.from_numpy(pixels_of(views)).to(self._device)
        pixels = (gray[:, None].expand(-1, 3, -1, -1) - self._mean) / self._std
        return np.array([float(fold(pixels)) for fold in self._folds])


class Straightforward(InOneThread):
    """See Rival; it is given the box, as the others are."""

    name = "straightforward"
    what = (
        "scipy rotations of the whole cube and PyTorch in eager mode, float32, inference mode, torch's own number of "
        "threads, fold by fold and nodule by nodule, in one thread of the benchmark's process; models loaded before"
    )

    warm_up_calls = 1

    def __init__(self, checkpoint: Path | Checkpoint) -> None:
        self._checkpoint: Path | Checkpoint | None = checkpoint

    async def _start(self, ends: AsyncExitStack) -> None:
        await super()._start(ends)
        checkpoint, self._checkpoint = self._checkpoint, None  # its weights are not needed twice
        assert checkpoint is not None, "it is entered once"
        self._folds = await self._run(lambda: Folds(_read(checkpoint)))
        ends.callback(delattr, self, "_folds")

    async def score(self, case: Case, deadline: float) -> NDArray[np.float64]:
        """See Rival.

        Raises:
            TimeoutError: its turn did not come, or end, in time.
        """
        async with asyncio.timeout(deadline):
            return await self._run(lambda: score_box(self._folds, case))


def score_box(folds: Folds, case: Case) -> NDArray[np.float64]:
    """Each fold's probability of cancer [F], from the case's box."""
    geometry = case.geometry
    return folds(views_of_box(case.voxels, case.box.start, geometry.shape, geometry.affine, case.center))


class StraightforwardScan:
    """The same from DICOM on disk: a whole series is read and resampled, then a nodule's cube is cut out of it.

    Attributes:
        seconds: of all nodules so far, by stage: "reading", "resampling", "views", "encoder".
    """

    def __init__(self, checkpoint: Path | Checkpoint, keep: bool = False) -> None:
        """Load the models.

        Args:
            checkpoint: a folder, or what was read of it.
            keep: the last series stays in memory, resampled, for its next nodule; else every nodule begins with files.
        """
        self._folds = Folds(_read(checkpoint))
        self._folds(warm_up_case().views)
        self._keep, self._kept = keep, _Resampled()
        self.seconds = dict.fromkeys(("reading", "resampling", "views", "encoder"), 0.0)

    def score(self, folder: Path, center: Sequence[float]) -> NDArray[np.float64]:
        """Each fold's probability of cancer [F] of one nodule.

        Args:
            folder: of one DICOM series.
            center: LPS millimetres (x, y, z).

        Raises:
            NoduleserveError: EXTRA_MISSING.
            SeriesError: SERIES_EMPTY where SimpleITK finds no series.
        """
        series = self._kept if self._kept.folder == folder else self._resampled(folder)
        self._kept = series if self._keep else _Resampled()
        cube = self._timed("resampling", lambda: cut_out(series.voxels, series.shape, series.affine, center))
        views = self._timed("views", lambda: views_of_cube(cube))
        return self._timed("encoder", lambda: self._folds(views))

    def _resampled(self, folder: Path) -> _Resampled:
        self._kept = _Resampled()  # before the next is there: two do not fit everywhere
        voxels, affine = self._timed("reading", lambda: read_series(folder))
        whole = self._timed("resampling", lambda: resampled(voxels, affine))
        return _Resampled(folder, whole, np.array(voxels.shape[::-1]), affine)

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = work()
        self.seconds[stage] += time.perf_counter() - began
        return result


class _Resampled(NamedTuple):
    """A series at 1 mm a voxel, HU [z, y, x]; shape (x, y, z) and affine are those that it had."""

    folder: Path | None = None
    voxels: NDArray[np.float32] = np.zeros((0, 0, 0), np.float32)
    shape: NDArray[np.int64] = np.zeros(3, np.int64)
    affine: NDArray[np.float64] = np.eye(4)


def read_series(folder: Path) -> tuple[NDArray, NDArray[np.float64]]:
    """A DICOM series as SimpleITK reads it: HU [z, y, x], and the affine from voxel (x, y, z, 1) to LPS millimetres.

    Raises:
        NoduleserveError: EXTRA_MISSING.
        SeriesError: SERIES_EMPTY.
    """
    try:
        import SimpleITK as sitk
    except ModuleNotFoundError:
        raise missing("SimpleITK") from None
    reader = sitk.ImageSeriesReader()
    files = reader.GetGDCMSeriesFileNames(str(folder), recursive=True)
    if not files:
        raise SeriesError("SERIES_EMPTY", f"SimpleITK finds no DICOM series in {folder.name}.", "Name its folder.")
    reader.SetFileNames(files)
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    # The method's volumes are NIfTI files, whose header rounds it so.
    return sitk.GetArrayFromImage(image), affine.astype(np.float32).astype(np.float64)


def _read(checkpoint: Path | Checkpoint) -> Checkpoint:
    return checkpoint if isinstance(checkpoint, Checkpoint) else read_checkpoint(checkpoint)


def _tensor(value: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.asarray(value))
