"""A CT volume in a NIfTI file."""

from __future__ import annotations

import threading
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from noduleserve.errors import SeriesError
from noduleserve.preprocessing import BadRequest, Box, VolumeGeometry

from .doubt import InputWarning, check_spacing
from .hounsfield import to_hounsfield

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# What nibabel lets through on damaged files.
_DAMAGED = (ImageFileError, HeaderDataError, EOFError, OSError, ValueError, zlib.error)


class NiftiVolume:
    """A CT volume opened from .nii or .nii.gz; implements `Volume`. Threads may share it.

    Of an uncompressed file each box reads its own slices. A compressed one can only be read from its
    beginning: the first box unpacks all its voxels and keeps them in memory for the boxes that follow.

    Attributes:
        geometry: voxel axes x, y, z are the stored first, second and third axis, whichever way they run.
        series_uid: "", since NIfTI has none.
    """

    geometry: VolumeGeometry
    series_uid: str = ""
    warnings: tuple[InputWarning, ...]

    def __init__(self, geometry: VolumeGeometry, data: ArrayProxy, path: Path) -> None:
        self.geometry = geometry
        self.warnings = check_spacing(geometry)
        self._path = path
        self._slope, self._intercept = float(data.slope), float(data.inter)
        # Axes x, y, z, not scaled: scaling waits until the box has been cut out. Not mapped into memory: a
        # mapped file that shrinks kills the process.
        spec = (tuple(geometry.shape.tolist()), data.dtype, data.offset, 1.0, 0.0)
        self._on_disk = ArrayProxy(path, spec, mmap=False)
        self._packed = path.name.lower().endswith(".gz")
        self._unpacked: NDArray[Any] | None = None
        self._unpacking = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> NiftiVolume:
        """Read the header of a NIfTI file.

        Raises:
            SeriesError: SERIES_NOT_FOUND, NIFTI_UNREADABLE, NIFTI_NOT_3D, NIFTI_NOT_NUMBERS (colours,
                complex), NIFTI_UNITS (not millimetres), NIFTI_NO_POSITION (neither sform nor qform),
                VOXEL_TOO_LARGE, AFFINE_SINGULAR, AFFINE_NOT_FINITE (as `VolumeGeometry` has them).
        """
        try:
            image = nibabel.load(path, mmap=False)
        except FileNotFoundError as error:
            raise SeriesError(
                "SERIES_NOT_FOUND",
                f"There is no file {path.name}.",
                "Check image_path; where relative, it starts at the worklist's folder or at the root given.",
            ) from error
        except _DAMAGED as error:
            raise _unreadable("NIFTI_UNREADABLE", path, error) from error
        if not isinstance(image, Nifti1Image) or not isinstance(image.dataobj, ArrayProxy):
            raise _unreadable("NIFTI_UNREADABLE", path, TypeError())
        shape = _checked_shape(image, path)
        _check_position(image, path)
        try:
            geometry = VolumeGeometry(np.array(shape), _RAS_TO_LPS @ image.affine)
        except BadRequest as error:
            raise SeriesError(error.code, error.what, error.mend) from error
        return cls(geometry, image.dataobj, path)

    def read_box(self, box: Box) -> NDArray[np.int16]:
        """Hounsfield units of a box, int16 [z, y, x], contiguous.

        Raises:
            SeriesError: PIXELS_UNREADABLE, NIFTI_NOT_FINITE (a voxel of the box is NaN or infinite).
            ValueError: the box reaches beyond the volume.
        """
        if not Box(start=np.zeros(3, np.int64), stop=self.geometry.shape).covers(box):
            raise ValueError(f"The box ({box}) reaches beyond the volume.")
        along_z, along_y, along_x = box.slices
        stored = self._slices(along_z)[along_x, along_y].transpose(2, 1, 0)
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            raise SeriesError(
                "NIFTI_NOT_FINITE",
                f"{self._path.name} has voxels near the nodule that are not finite numbers.",
                "Convert the series to NIfTI again, with -1000 HU where nothing was measured.",
            )
        return np.ascontiguousarray(to_hounsfield(stored, self._slope, self._intercept))

    def _slices(self, along_z: slice) -> NDArray[Any]:
        """The stored numbers of some slices, [x, y, z]; whole ones: one long read beats many short ones."""
        try:
            if not self._packed:
                return np.asarray(self._on_disk[:, :, along_z])
            with self._unpacking:
                if self._unpacked is None:
                    self._unpacked = np.asarray(self._on_disk)
            return self._unpacked[:, :, along_z]
        except _DAMAGED as error:
            raise _unreadable("PIXELS_UNREADABLE", self._path, error) from error


def _checked_shape(image: Nifti1Image, path: Path) -> tuple[int, ...]:
    """The three axes of the image; further axes may be there where they are 1 long."""
    shape = image.shape
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or 0 in shape:
        raise SeriesError(
            "NIFTI_NOT_3D",
            f"{path.name} has the shape {' x '.join(map(str, shape))}.",
            "Give a file with one volume of three axes.",
        )
    if image.get_data_dtype().kind not in "iuf":
        raise SeriesError(
            "NIFTI_NOT_NUMBERS",
            f"The voxels of {path.name} are no plain numbers ({image.get_data_dtype()}).",
            "Give a file with Hounsfield units as integers or floating-point numbers.",
        )
    return tuple(shape[:3])


def _check_position(image: Nifti1Image, path: Path) -> None:
    if not (int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0):
        raise SeriesError(
            "NIFTI_NO_POSITION",
            f"{path.name} does not say where its voxels lie in the patient (sform and qform code are 0).",
            "Convert the series from DICOM again with a tool that keeps the position.",
        )
    unit = image.header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise SeriesError(
            "NIFTI_UNITS", f"{path.name} measures in {unit}.", "Convert the series again, in millimetres."
        )


def _unreadable(code: str, path: Path, error: Exception) -> SeriesError:
    return SeriesError(
        code,
        f"{path.name} cannot be read as a NIfTI file ({type(error).__name__}).",
        "Copy or convert the file again.",
    )
