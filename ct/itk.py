"""A CT volume in a NRRD or MetaImage file, read through SimpleITK."""

from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import SeriesError
from noduleserve.preprocessing import BadRequest, Box, VolumeGeometry

from .doubt import InputWarning, check_spacing
from .hounsfield import to_hounsfield
from .itk_header import ItkHeader, read_itk_header, unreadable
from .limits import check_box, check_signed, check_size, check_unpacked

ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")

_UNIT = 1e-3  # how far from 1 rounding takes the length of a direction

# numpy's names of the numbers that are read -> SimpleITK's
_NUMBERS = {
    **{f"int{bits}": f"sitkInt{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"sitkUInt{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"sitkFloat{bits}" for bits in (32, 64)},
}


class ItkVolume:
    """A CT volume opened from .nrrd, .nhdr, .mha or .mhd; implements `Volume`. Threads may share it.

    Of uncompressed MetaImage each box reads its own voxels. NRRD, and what is compressed, can only be read
    whole: the first box unpacks all voxels and keeps them in memory for the boxes that follow.

    Attributes:
        geometry: voxel axes x, y, z are the stored axes, fastest first, whichever way they run.
        series_uid: "", since neither format has one.
    """

    geometry: VolumeGeometry
    series_uid: str = ""
    warnings: tuple[InputWarning, ...]

    def __init__(self, geometry: VolumeGeometry, dtype: np.dtype[Any], header: ItkHeader, path: Path) -> None:
        self.geometry, self.dtype = geometry, dtype
        self.warnings = check_spacing(geometry)
        self._path, self._header = path, header
        self._streams = header.raw and header.kind == "MetaImageIO"
        self._unpacked: NDArray[Any] | None = None
        self._unpacking = threading.Lock()
        if not self._streams:
            check_unpacked(path.name, header.shape, dtype.itemsize)

    @classmethod
    def open(cls, path: Path) -> ItkVolume:
        """Read the header of a file with Hounsfield units.

        Raises:
            SeriesError: NOT_HOUNSFIELD (numbers that cannot fall below 0, or that must be mapped to others), and
                what `open_numbers` raises.
        """
        volume = cls.open_numbers(path)
        check_signed(path.name, volume.dtype)
        return volume

    @classmethod
    def open_numbers(cls, path: Path) -> ItkVolume:
        """Read the header of a file, whatever its numbers stand for (Hounsfield units, labels).

        Raises:
            SeriesError: FORMAT_NEEDS_PACKAGE (no SimpleITK), ITK_NOT_NUMBERS (complex numbers), PIXELS_TRUNCATED,
                SERIES_TOO_LARGE, SPACING_TOO_WIDE, VOXEL_TOO_LARGE, AFFINE_SINGULAR, AFFINE_NOT_FINITE, and what
                `read_itk_header` raises.
        """
        sitk = simple_itk()
        header = read_itk_header(path)
        check_size(path.name, header.shape)
        reader = _reader(sitk, path, header)
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise unreadable(path, "its header is damaged") from error
        dtype = _dtype(sitk, reader, path)
        if tuple(reader.GetSize()) != header.shape or reader.GetNumberOfComponents() != 1:
            raise unreadable(path, "its header contradicts itself")
        _check_length(header, dtype, path)
        affine, direction = np.eye(4), np.array(reader.GetDirection()).reshape(3, 3)
        lengths = np.linalg.norm(direction, axis=0)
        if np.isfinite(lengths).all() and lengths.min() > 0 and np.abs(lengths - 1).max() > _UNIT:
            raise unreadable(path, "its axes are no unit vectors, so that two spacings contradict each other")
        affine[:3, :3] = direction * reader.GetSpacing()
        affine[:3, 3] = reader.GetOrigin()
        try:
            geometry = VolumeGeometry(np.array(header.shape), affine)
        except BadRequest as error:
            raise SeriesError(error.code, error.what, error.mend) from error
        return cls(geometry, dtype, header, path)

    def read_box(self, box: Box) -> NDArray[np.int16]:
        """Hounsfield units of a box, int16 [z, y, x], contiguous.

        Raises:
            SeriesError: PIXELS_UNREADABLE, ITK_NOT_FINITE (a voxel of the box is NaN or infinite), BOX_TOO_LARGE.
            ValueError: the box reaches beyond the volume.
        """
        return np.ascontiguousarray(to_hounsfield(self._stored(box), 1.0, 0.0))

    def read_numbers(self) -> NDArray[Any]:
        """All numbers of the volume, [z, y, x]; errors as of `read_box`."""
        return self._stored(Box(start=np.zeros(3, np.int64), stop=self.geometry.shape))

    def _stored(self, box: Box) -> NDArray[Any]:
        check_box(box, self.geometry)
        if self._streams:
            stored = self._read(box)
        else:
            with self._unpacking:
                if self._unpacked is None:
                    self._unpacked = self._read(None)
            stored = self._unpacked[box.slices]
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            raise SeriesError(
                "ITK_NOT_FINITE",
                f"{self._path.name} has voxels near the nodule that are not finite numbers.",
                "Convert the series again, with -1000 HU where nothing was measured.",
            )
        return stored

    def _read(self, box: Box | None) -> NDArray[Any]:
        """The stored numbers of a box, or of the whole volume, [z, y, x]."""
        sitk = simple_itk()
        reader = _reader(sitk, self._path, self._header)
        if box is not None:
            reader.SetExtractIndex(box.start.tolist())
            reader.SetExtractSize(box.shape.tolist())
        try:
            stored = sitk.GetArrayFromImage(reader.Execute())
        except (RuntimeError, MemoryError) as error:
            raise SeriesError(
                "PIXELS_UNREADABLE",
                f"The voxels of {self._path.name} cannot be read ({type(error).__name__}).",
                "Copy or convert the file again.",
            ) from error
        expected = self.geometry.shape if box is None else box.shape
        if stored.shape != tuple(expected[::-1].tolist()) or stored.dtype != self.dtype:  # the file was changed
            raise SeriesError(
                "PIXELS_UNREADABLE",
                f"{self._path.name} is not what it was when it was opened.",
                "Score the worklist again once the file is complete.",
            )
        return stored


def simple_itk() -> ModuleType:
    """SimpleITK, which the light install leaves out.

    Raises:
        SeriesError: FORMAT_NEEDS_PACKAGE.
    """
    try:
        import SimpleITK
    except ModuleNotFoundError as error:
        raise SeriesError(
            "FORMAT_NEEDS_PACKAGE",
            "NRRD, MetaImage and masks are read with the Python package SimpleITK, which is not installed.",
            "Run `pip install 'noduleserve[formats]'`.",
        ) from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # what matters comes as an exception, not on the terminal
    return SimpleITK


def _reader(sitk: ModuleType, path: Path, header: ItkHeader) -> Any:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(header.kind)
    return reader


def _dtype(sitk: ModuleType, reader: Any, path: Path) -> np.dtype[Any]:
    names = {getattr(sitk, of_itk): name for name, of_itk in _NUMBERS.items()}
    if reader.GetPixelID() not in names or reader.GetNumberOfComponents() != 1:
        raise SeriesError(
            "ITK_NOT_NUMBERS",
            f"The voxels of {path.name} are no plain numbers.",
            "Give a file with Hounsfield units as integers or floating-point numbers.",
        )
    return np.dtype(names[reader.GetPixelID()])


def _check_length(header: ItkHeader, dtype: np.dtype[Any], path: Path) -> None:
    """Refuse a file that ends before its voxels do, where that can be told without unpacking them."""
    if not header.raw:
        return
    needed = int(np.prod(header.shape, dtype=np.int64)) * dtype.itemsize
    if header.data.stat().st_size - header.data_at < needed:
        raise SeriesError(
            "PIXELS_TRUNCATED", f"The voxels of {path.name} end too early.", "Copy or convert the file again."
        )
