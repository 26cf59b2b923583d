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
from nibabel.nifti1 import Nifti1Image, Nifti1Pair
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from noduleserve.errors import SeriesError
from noduleserve.preprocessing import BadRequest, Box, VolumeGeometry

from .doubt import InputWarning, check_spacing
from .hounsfield import to_hounsfield
from .limits import check_box, check_signed, check_size, check_unpacked

FORMS_DIFFER_MM = 1.0  # between the corners of the volume as sform and as qform place them

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_IN_PATIENT = (1, 2)  # codes of a form: the scanner's coordinates, coordinates aligned with another scan
# What nibabel lets through on damaged files.
_DAMAGED = (ImageFileError, HeaderDataError, EOFError, OSError, ValueError, OverflowError, zlib.error)


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

    def __init__(
        self, geometry: VolumeGeometry, data: ArrayProxy, path: Path, warnings: tuple[InputWarning, ...] = ()
    ) -> None:
        self.geometry = geometry
        self.warnings = (*check_spacing(geometry), *warnings)
        self._path = path
        self._slope, self._intercept = float(data.slope), float(data.inter)
        # Axes x, y, z, not scaled: scaling waits until the box has been cut out. Not mapped into memory: a
        # mapped file that shrinks kills the process.
        spec = (tuple(geometry.shape.tolist()), data.dtype, data.offset, 1.0, 0.0)
        self._on_disk = ArrayProxy(path, spec, mmap=False)
        self._packed = path.name.lower().endswith(".gz")
        self._unpacked: NDArray[Any] | None = None
        self._unpacking = threading.Lock()
        if self._packed:
            check_unpacked(path.name, geometry.shape.tolist(), data.dtype.itemsize)

    @classmethod
    def open(cls, path: Path) -> NiftiVolume:
        """Read the header of a NIfTI file with Hounsfield units.

        Where sform and qform are both set, the one in the scanner's coordinates (code 1) places the voxels,
        sform before qform; NIFTI_FORMS_DIFFER is among `warnings` where they do not agree.

        Raises:
            SeriesError: NOT_HOUNSFIELD (numbers that cannot fall below 0), and what `open_numbers` raises.
        """
        volume = cls.open_numbers(path)
        check_signed(path.name, volume._on_disk.dtype, volume._slope, volume._intercept)
        return volume

    @classmethod
    def open_numbers(cls, path: Path) -> NiftiVolume:
        """Read the header of a NIfTI file, whatever its numbers stand for (Hounsfield units, labels).

        Raises:
            SeriesError: SERIES_NOT_FOUND, NIFTI_UNREADABLE, NIFTI_PAIR (.hdr and .img), NIFTI_NOT_3D,
                NIFTI_NOT_NUMBERS (colours, complex), NIFTI_UNITS (not millimetres), NIFTI_NO_POSITION (no form,
                or only ones in the space of a template), SERIES_TOO_LARGE, SPACING_TOO_WIDE, VOXEL_TOO_LARGE,
                AFFINE_SINGULAR, AFFINE_NOT_FINITE (as `VolumeGeometry` has them).
        """
        image, data = _load(path)
        shape = _checked_shape(image, path)
        check_size(path.name, shape)
        affine, warnings = _position(image, shape, path)
        try:
            geometry = VolumeGeometry(np.array(shape), _RAS_TO_LPS @ affine)
        except BadRequest as error:
            raise SeriesError(error.code, error.what, error.mend) from error
        return cls(geometry, data, path, warnings)

    def read_box(self, box: Box) -> NDArray[np.int16]:
        """Hounsfield units of a box, int16 [z, y, x], contiguous.

        Raises:
            SeriesError: PIXELS_UNREADABLE, NIFTI_NOT_FINITE (a voxel of the box is NaN or infinite), BOX_TOO_LARGE.
            ValueError: the box reaches beyond the volume.
        """
        stored = self._stored(box)
        return np.ascontiguousarray(to_hounsfield(stored, self._slope, self._intercept))

    def read_numbers(self) -> NDArray[Any]:
        """All numbers of the volume, [z, y, x], scaled where the file says so; errors as of `read_box`."""
        stored = self._stored(Box(start=np.zeros(3, np.int64), stop=self.geometry.shape))
        if (self._slope, self._intercept) == (1.0, 0.0):
            return stored
        return stored * self._slope + self._intercept

    def _stored(self, box: Box) -> NDArray[Any]:
        check_box(box, self.geometry)
        along_z, along_y, along_x = box.slices
        stored = self._slices(along_z)[along_x, along_y].transpose(2, 1, 0)
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            raise SeriesError(
                "NIFTI_NOT_FINITE",
                f"{self._path.name} has voxels near the nodule that are not finite numbers.",
                "Convert the series to NIfTI again, with -1000 HU where nothing was measured.",
            )
        return stored

    def _slices(self, along_z: slice) -> NDArray[Any]:
        """The stored numbers of some slices, [x, y, z]; whole ones: one long read beats many short ones."""
        try:
            if not self._packed:
                return np.asarray(self._on_disk[:, :, along_z])
            with self._unpacking:
                if self._unpacked is None:
                    self._unpacked = np.asarray(self._on_disk)
            return self._unpacked[:, :, along_z]
        except (*_DAMAGED, MemoryError) as error:
            raise _unreadable("PIXELS_UNREADABLE", self._path, error) from error


def _load(path: Path) -> tuple[Nifti1Image, ArrayProxy]:
    """The header as an image, and where and how its voxels are stored."""
    try:
        image = nibabel.load(path, mmap=False)
    except FileNotFoundError as error:
        raise SeriesError(
            "SERIES_NOT_FOUND",
            f"There is no file {path.name}.",
            "Check image_path; where relative, it starts at the worklist's folder or at the root given.",
        ) from error
    except (*_DAMAGED, MemoryError) as error:
        raise _unreadable("NIFTI_UNREADABLE", path, error) from error
    if isinstance(image, Nifti1Pair) and not isinstance(image, Nifti1Image):
        raise SeriesError(
            "NIFTI_PAIR",
            f"{path.name} is one half of a NIfTI pair (.hdr and .img), which may lose its other half.",
            "Convert the pair to one .nii or .nii.gz file.",
        )
    if not isinstance(image, Nifti1Image) or not isinstance(image.dataobj, ArrayProxy):
        raise _unreadable("NIFTI_UNREADABLE", path, TypeError())
    return image, image.dataobj


def _checked_shape(image: Nifti1Image, path: Path) -> tuple[int, ...]:
    """The three axes of the image; further axes may be there where they are 1 long."""
    shape = image.shape
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
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


def _position(
    image: Nifti1Image, shape: tuple[int, ...], path: Path
) -> tuple[NDArray[np.float64], tuple[InputWarning, ...]]:
    """The affine from voxel index to RAS in the unit of the file, which must be millimetres; and what is doubtful.

    A form in the space of a template (Talairach, MNI) says nothing of where a voxel lies in the patient. Of two
    forms in the patient, the scanner's own coordinates (code 1) are those of the DICOM series that the file was
    made from; where both or neither claim to be, sform goes first, as it does for most readers.
    """
    unit = image.header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise SeriesError(
            "NIFTI_UNITS", f"{path.name} measures in {unit}.", "Convert the series again, in millimetres."
        )
    forms = _forms(image)
    in_patient = [(code, affine) for code, affine in forms if code in _IN_PATIENT and affine is not None]
    if not in_patient:
        template = any(code > max(_IN_PATIENT) for code, _ in forms)
        where = "but in a template" if template else "(sform and qform code are 0, or cannot be read)"
        raise SeriesError(
            "NIFTI_NO_POSITION",
            f"{path.name} does not say where its voxels lie in the patient {where}.",
            "Convert the series from DICOM again with a tool that keeps the position.",
        )
    affine = min(in_patient, key=lambda form: form[0])[1]
    if all(code > 0 for code, _ in forms) and not _agree(forms[0][1], forms[1][1], shape):
        used = "sform" if affine is forms[0][1] else "qform"
        warning = InputWarning(
            "NIFTI_FORMS_DIFFER",
            f"sform and qform of {path.name} place its voxels more than {FORMS_DIFFER_MM:g} mm apart; {used} is used.",
            "Look at the nodule with `noduleserve look`, and convert the series from DICOM again.",
        )
        return affine, (warning,)
    return affine, ()


def _forms(image: Nifti1Image) -> list[tuple[int, NDArray[np.float64] | None]]:
    """Code and affine of sform and qform, in this order; no affine where its numbers make none."""
    header = image.header
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            qform = header.get_qform() if int(header["qform_code"]) > 0 else None
    except (HeaderDataError, ValueError, ArithmeticError):
        qform = None
    return [(int(header["sform_code"]), header.get_sform()), (int(header["qform_code"]), qform)]


def _agree(a: NDArray[np.float64] | None, b: NDArray[np.float64] | None, shape: tuple[int, ...]) -> bool:
    """Whether two affines place the corners of the volume alike, to `FORMS_DIFFER_MM`."""
    if a is None or b is None:
        return False
    corners = np.array([[*index, 1.0] for index in np.ndindex(2, 2, 2)]) * [*(n - 1 for n in shape), 1]
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.linalg.norm((corners @ (a - b).T)[:, :3], axis=1).max()
    return bool(apart <= FORMS_DIFFER_MM)


def _unreadable(code: str, path: Path, error: BaseException) -> SeriesError:
    return SeriesError(
        code,
        f"{path.name} cannot be read as a NIfTI file ({type(error).__name__}).",
        "Copy or convert the file again.",
    )
