"""Small CT series written with pydicom, for tests that read them back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Edit = Callable[[int, FileDataset], None]


def normal_of(orientation: Sequence[float]) -> NDArray[np.float64]:
    """The direction that slices of an ImageOrientationPatient are stacked in, LPS."""
    return np.cross(orientation[:3], orientation[3:])


def affine_of(orientation: Sequence[float], position: Sequence[float], spacing: Sequence[float]) -> NDArray[np.float64]:
    """Voxel index (x, y, z, 1) -> LPS mm of a series with a spacing along x, y, z (columns, rows, slices)."""
    affine = np.eye(4)
    axes = [orientation[:3], orientation[3:], normal_of(orientation)]
    affine[:3, :3] = np.array(axes, float).T * spacing
    affine[:3, 3] = position
    return affine


def ct_slice(stored: NDArray[Any], syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    """One CT image of 16-bit stored numbers [y, x], signed as the array is, at the origin; not yet saved."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = UID(syntax)
    little = meta.TransferSyntaxUID.is_little_endian
    image = FileDataset(
        "",
        {},
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=meta.TransferSyntaxUID.is_implicit_VR,
        is_little_endian=little,
    )
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.Modality = "CT"
    image.PatientName, image.PatientID = "Doe^Jane", "P-4711"
    image.ImageOrientationPatient = list(AXIAL)
    image.ImagePositionPatient = [0, 0, 0]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = stored.shape
    image.PixelSpacing = [1, 1]
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = int(stored.dtype.kind == "i")
    image.RescaleSlope, image.RescaleIntercept = 1, 0
    image.PixelData = stored.astype(stored.dtype.newbyteorder("<" if little else ">")).tobytes()
    image["PixelData"].VR = "OW"
    return image


def write_series(
    folder: Path,
    stored: NDArray[Any],
    *,
    orientation: Sequence[float] = AXIAL,
    position: Sequence[float] = (0.0, 0.0, 0.0),
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    syntax: str = ExplicitVRLittleEndian,
    names: Sequence[str] | None = None,
    series_uid: str = "1.2.3.4",
    edit: Edit = lambda number, image: None,
) -> Path:
    """Write 16-bit stored numbers [z, y, x] as a series, a file each z; returns the folder.

    `spacing` is along x, y, z; z runs along the normal of the slices. `edit(z, image)` may change a slice
    before it is saved, `names` gives the files' names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frame = generate_uid()
    for number, plane in enumerate(stored):
        image = ct_slice(plane, syntax)
        image.SeriesInstanceUID, image.FrameOfReferenceUID = series_uid, frame
        image.ImageOrientationPatient = [float(f"{c:.9f}") for c in orientation]
        at = np.asarray(position) + number * spacing[2] * normal_of(orientation)
        image.ImagePositionPatient = [float(f"{c:.6f}") for c in at]
        image.PixelSpacing = [spacing[1], spacing[0]]
        image.InstanceNumber = number + 1
        edit(number, image)
        image.save_as(folder / (names[number] if names else f"{number:03}.dcm"), enforce_file_format=True)
    return folder
