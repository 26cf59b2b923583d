"""A CT series of DICOM files, opened without reading its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.doubt import InputWarning, check_spacing
from noduleserve.ct.limits import check_box
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box, VolumeGeometry

from .frames import DecodedFrames
from .header import DicomHeader
from .index import SeriesIndex
from .slices import Instance, slices_of, without_copies
from .stack import stacked

_SCANNER = ("Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "SliceThickness")


class DicomSeries:
    """A CT series opened from DICOM files; implements `Volume`. Threads may share it.

    Attributes:
        geometry: voxel axes x, y, z are column, row and slice; z runs along the normal of the slices (the
            cross product of the directions of x and y), whatever the order of the files.
        series_uid, study_uid: SeriesInstanceUID, StudyInstanceUID ("" where there is none).
        frame_of_reference: FrameOfReferenceUID; "" where there is none.
        file: of the first slice.
        instances: one for each z.
        scanner: Manufacturer, ManufacturerModelName, ConvolutionKernel, SliceThickness of the first slice; "" where
            missing.
    """

    geometry: VolumeGeometry
    series_uid: str
    study_uid: str
    file: Path
    frame_of_reference: str
    instances: tuple[Instance, ...]
    scanner: dict[str, str]
    warnings: tuple[InputWarning, ...]

    def __init__(self, headers: Sequence[DicomHeader]) -> None:
        """Put the files of one series, in any order, into a volume.

        Raises:
            SeriesError:
                of one file: FILE_UNREADABLE, TAG_MISSING, TAG_INVALID, NOT_HOUNSFIELD, SERIES_TOO_LARGE;
                of the stack: NOT_CT (localizers only), SERIES_TOO_FEW (one slice), SERIES_MIXED (slices that differ
                in size, spacing, orientation or frame of reference, or lie beside the others), SERIES_DUPLICATE (two
                different slices at one position), SERIES_UNEVEN (a slice missing, or spacing that changes),
                SERIES_TILTED_TOO_FAR, SERIES_TOO_LARGE, SPACING_TOO_WIDE, and VOXEL_TOO_LARGE, AFFINE_SINGULAR as
                `VolumeGeometry` has them.
        """
        slices = without_copies(slices_of(headers))
        if not slices:
            raise SeriesError("NOT_CT", "The series holds localizers only.", "Give the folder of a CT series.")
        slices, self.geometry, warnings = stacked(slices)
        self.warnings = (*check_spacing(self.geometry), *warnings)
        first = slices[0].pixels.header
        self.series_uid = first.text("SeriesInstanceUID")
        self.study_uid = first.text("StudyInstanceUID", required=False)
        self.frame_of_reference = slices[0].frame_of_reference
        self.file = first.path
        self.instances = tuple(s.instance for s in slices)
        self.scanner = {keyword: first.text(keyword, required=False) for keyword in _SCANNER}
        self._pixels = [s.pixels for s in slices]
        self._frames = DecodedFrames()

    @classmethod
    def open(cls, folder: Path, series_uid: str = "") -> DicomSeries:
        """Read the headers of a CT series in a folder and its subfolders, of the only one where none is named.

        Raises:
            SeriesError: of the folder: SERIES_NOT_FOUND, SERIES_EMPTY (no DICOM file), NOT_CT (no CT image),
                SERIES_AMBIGUOUS (several CT series and none named), SERIES_NOT_IN_FOLDER, FILE_UNREADABLE; of the
                series: as above.
        """
        return cls(SeriesIndex.of_folder(folder).headers(series_uid))

    def read_box(self, box: Box) -> NDArray[np.int16]:
        """Hounsfield units of a box, int16 [z, y, x], contiguous; reads only the slices that the box needs.

        Raises:
            SeriesError: BOX_TOO_LARGE, FILE_UNREADABLE, PIXELS_UNREADABLE, PIXELS_TRUNCATED, DECODER_MISSING.
            ValueError: the box reaches beyond the volume.
        """
        check_box(box, self.geometry)
        along_z, along_y, along_x = box.slices
        voxels = np.empty(box.shape[::-1], np.int16)
        for plane, pixels in zip(voxels, self._pixels[along_z], strict=True):
            plane[...] = pixels.read_hounsfield(along_y, along_x, self._frames)
        return voxels
