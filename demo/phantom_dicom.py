"""Writes a phantom as a scanner would deliver it: a DICOM CT series, and the worklist of its nodules."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

if TYPE_CHECKING:
    from noduleserve.demo.phantom import Phantom

PATIENT_ID = "PHANTOM-001"
RESCALE_INTERCEPT = -1024
WORKLIST_COLUMNS = ("pid", "nodule_id", "image_path", "coordX", "coordY", "coordZ", "kind", "diameter_mm")


def write_dicom(phantom: Phantom, folder: Path) -> list[Path]:
    """Write one CT Image Storage file per slice into `folder`, and return the files from foot to head.

    UIDs and file names follow from the phantom's content: the same phantom gives the same bytes. As in many
    an archive, the names say nothing of the order, and instance numbers count from head to foot.
    """
    content = hashlib.sha256(phantom.voxels.tobytes() + phantom.affine.tobytes()).hexdigest()
    stored = _stored_values(phantom)
    depth = len(stored)
    names = np.random.default_rng(int(content[:16], 16)).permutation(depth)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, pixels in enumerate(stored):
        dataset = _series(phantom, content)
        _image(dataset, phantom, content, k)
        _pixels(dataset, pixels)
        path = folder / f"IM{names[k]:05d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_worklist(phantom: Phantom, image_path: Path, path: Path) -> None:
    """Write the nodules as CSV: centres in LPS mm, the image's path relative to the worklist's folder."""
    relative = Path(os.path.relpath(image_path, path.parent)).as_posix()
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(WORKLIST_COLUMNS)
        for n in phantom.nodules:
            rows.writerow([PATIENT_ID, n.nodule_id, relative, *n.center_lps, n.kind, n.diameter_mm])


def _stored_values(phantom: Phantom) -> np.ndarray:
    """The voxels as the file stores them: uint16 [z, y, x], HU minus the rescale intercept."""
    if phantom.voxels.min() < RESCALE_INTERCEPT:
        raise ValueError(f"voxels under {RESCALE_INTERCEPT} HU cannot be stored; clip them first")
    return (phantom.voxels.astype(np.int32) - RESCALE_INTERCEPT).astype("<u2")


def _series(phantom: Phantom, content: str) -> Dataset:
    """What all slices share: patient, study, series, frame of reference, equipment."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"

    ds.PatientName = "PHANTOM^NODULESERVE"
    ds.PatientID = PATIENT_ID
    ds.PatientBirthDate = "19600101"
    ds.PatientSex = "O"
    ds.PatientAge = "065Y"

    ds.StudyInstanceUID = _uid(content, "study")
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20250101"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "080000"
    ds.StudyID = "1"
    ds.AccessionNumber = "PHANTOM001"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Low-dose chest CT of a phantom"

    ds.Modality = "CT"
    ds.SeriesInstanceUID = _uid(content, "series")
    ds.SeriesNumber = 2
    ds.SeriesDescription = "Axial, lung"
    ds.BodyPartExamined = "CHEST"
    ds.PatientPosition = "HFS"

    ds.FrameOfReferenceUID = _uid(content, "frame of reference")
    ds.PositionReferenceIndicator = ""

    ds.Manufacturer = "noduleserve"
    ds.ManufacturerModelName = "Chest phantom"
    ds.DeviceSerialNumber = "1"
    ds.SoftwareVersions = "1"
    return ds


def _image(ds: Dataset, phantom: Phantom, content: str, k: int) -> None:
    """What one slice is: identity, place in the patient, and how it was made."""
    depth = len(phantom.voxels)
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = _uid(content, f"slice {k}")
    ds.InstanceNumber = depth - k
    ds.AcquisitionNumber = 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"

    along_x, along_y, along_z = phantom.affine[:3, :3].T
    spacing_x, spacing_y, spacing_z = (float(np.linalg.norm(v)) for v in (along_x, along_y, along_z))
    position = phantom.affine[:3, 3] + k * along_z
    # DICOM gives the distance between rows first, and then that between columns.
    ds.PixelSpacing = _decimals(spacing_y, spacing_x)
    ds.ImageOrientationPatient = _decimals(*along_x / spacing_x, *along_y / spacing_y)
    ds.ImagePositionPatient = _decimals(*position)
    ds.SliceThickness, ds.SliceLocation = _decimals(spacing_z, position[2])

    ds.KVP = "120"
    ds.XRayTubeCurrent = 60
    ds.ExposureTime = 500
    ds.ConvolutionKernel = "LUNG"
    ds.RescaleIntercept, ds.RescaleSlope = _decimals(RESCALE_INTERCEPT, 1)
    ds.RescaleType = "HU"
    ds.WindowCenter, ds.WindowWidth = _decimals(-600, 1500)
    ds.WindowCenterWidthExplanation = "LUNG"


def _pixels(ds: Dataset, stored: np.ndarray) -> None:
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"

    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _uid(content: str, what: str) -> str:
    return generate_uid(entropy_srcs=["noduleserve phantom", content, what])


def _decimals(*values: float) -> list[str]:
    """Format numbers as DICOM decimal strings of at most 16 characters; adding 0 turns -0 into 0."""
    return [format_number_as_ds(round(float(v), 9) + 0.0) for v in values]
