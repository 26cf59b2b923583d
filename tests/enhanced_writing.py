"""Enhanced CT written with pydicom: the slices of a classic series as frames of one file."""

from __future__ import annotations

from copy import deepcopy

from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.uid import EnhancedCTImageStorage, generate_uid


def enhanced(images: list[FileDataset], order: list[int] | None = None) -> FileDataset:
    """An Enhanced CT Image with what all frames have in common in the shared groups, written with pydicom."""
    order = list(range(len(images))) if order is None else order
    image = deepcopy(images[0])
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(image, keyword)
    del image.RescaleIntercept, image.SliceThickness, image.ConvolutionKernel
    image.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    image.NumberOfFrames = len(order)
    image.PixelData = b"".join(images[k].PixelData for k in order)
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = images[0].ImageOrientationPatient
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = images[0].PixelSpacing
    shared.PixelMeasuresSequence[0].SliceThickness = 99.5  # which decides nothing
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [frame_of(images[k]) for k in order]
    return image


def frame_of(image: FileDataset) -> Dataset:
    """The functional groups of one frame."""
    frame = Dataset()
    frame.PlanePositionSequence = [Dataset()]
    frame.PlanePositionSequence[0].ImagePositionPatient = image.ImagePositionPatient
    frame.PixelValueTransformationSequence = [Dataset()]
    values = frame.PixelValueTransformationSequence[0]
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = image.RescaleSlope, image.RescaleIntercept, "HU"
    frame.CTImageFrameTypeSequence = [Dataset()]
    frame.CTImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    return frame
