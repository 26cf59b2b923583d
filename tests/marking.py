"""A small oblique CT series, and structure sets that mark it, for tests of what becomes of the marks."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from dicom_writing import affine_of, write_series
from numpy.typing import ArrayLike, NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

SHAPE = (14, 12, 10)  # voxels along x, y, z
_ORIENTATION, _POSITION, _SPACING = (0.8, 0.6, 0, -0.36, 0.48, 0.8), (-3.0, -40.0, 12.0), (1.5, 1.25, 2.5)


class MarkedCt(NamedTuple):
    """The series and its geometry."""

    folder: Path
    images: list[FileDataset]  # in the order of z
    affine: NDArray[np.float64]  # voxel index (x, y, z, 1) -> LPS mm

    @property
    def uid(self) -> str:
        return str(self.images[0].SeriesInstanceUID)

    @property
    def frame(self) -> str:
        return str(self.images[0].FrameOfReferenceUID)

    def lps(self, *voxels: ArrayLike) -> NDArray[np.float64]:
        """LPS mm [n, 3] of voxel indices (x, y, z)."""
        return np.asarray(voxels, np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]


def write_ct(folder: Path, series_uid: str = "1.2.3.4") -> MarkedCt:
    """Write the series into a folder, with what a study needs for others to refer to it."""

    def edit(number: int, image: FileDataset) -> None:
        image.StudyInstanceUID, image.StudyID, image.SeriesNumber, image.SliceThickness = "1.2.3", "1", 1, 2.5
        image.StudyDate, image.StudyTime, image.AccessionNumber = "20200101", "000000", ""
        image.PatientBirthDate = image.PatientSex = image.ReferringPhysicianName = ""

    planes = np.zeros(SHAPE[::-1], np.int16)
    write_series(
        folder,
        planes,
        orientation=_ORIENTATION,
        position=_POSITION,
        spacing=_SPACING,
        series_uid=series_uid,
        edit=edit,
    )
    images = [dcmread(path) for path in sorted(folder.iterdir())]
    return MarkedCt(folder, images, affine_of(_ORIENTATION, _POSITION, _SPACING))


def contour(points: NDArray[np.float64], kind: str = "CLOSED_PLANAR") -> Dataset:
    """An item of ContourSequence, points in LPS mm."""
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
    item.ContourData = [f"{number:.6f}" for number in points.ravel()]
    return item


def write_rtstruct(path: Path, ct: MarkedCt, structures: list[tuple[str, str, list[Dataset]]]) -> Path:
    """Write structures: name, interpreted type, contours."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    dataset.PatientID, dataset.Modality = "P-4711", "RTSTRUCT"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    dataset.RTROIObservationsSequence = []
    for number, (name, kind, contours) in enumerate(structures, 1):
        roi, drawn, observed = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, ct.frame
        drawn.ReferencedROINumber, drawn.ContourSequence = number, contours
        observed.ReferencedROINumber, observed.RTROIInterpretedType = number, kind
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
        dataset.RTROIObservationsSequence.append(observed)
    frame, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = ct.uid
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = ct.frame, [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def square(ct: MarkedCt, x: float, y: float, z: float, half: float) -> Dataset:
    """A square of voxels in slice z, of a half width in voxels."""
    return contour(ct.lps(*[(x + a * half, y + b * half, z) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]))
