"""Every code that reading a CT may end in, as literal tables: what refuses a series, and what is read with a warning.

Programs match on codes; they stay the same over releases. The sentence that comes with an error names the file, the
numbers and the mend; the one here says what the code stands for. `docs/input.md` shows these tables.
"""

from __future__ import annotations

# code -> what it stands for
SERIES_CODES: dict[str, str] = {
    "SERIES_NOT_FOUND": "There is no folder or file of that name.",
    "SERIES_EMPTY": "The folder holds no DICOM file.",
    "SERIES_AMBIGUOUS": "The folder holds several CT series, and none is chosen.",
    "SERIES_TOO_FEW": "The series has a single slice.",
    "SERIES_MIXED": "Slices differ in size, spacing, orientation or frame of reference, or lie beside the stack.",
    "SERIES_DUPLICATE": "Two different slices lie at one position.",
    "SERIES_UNEVEN": "A slice is missing, or the distance between slices changes.",
    "SERIES_UNREADABLE": "A reader failed in a way that nobody foresaw; only the kind of error is told.",
    "NOT_CT": "The folder holds DICOM, but no CT slice.",
    "NOT_HOUNSFIELD": "The stored numbers are not Hounsfield units.",
    "FORMAT_UNKNOWN": "The file is of no format that is read.",
    "FILE_UNREADABLE": "A file cannot be opened, or is damaged.",
    "TAG_MISSING": "A slice lacks an attribute that its geometry or its pixels need.",
    "TAG_INVALID": "An attribute holds numbers that cannot be right.",
    "PIXELS_UNREADABLE": "Pixel data cannot be decoded.",
    "PIXELS_TRUNCATED": "A file ends before its pixel data do.",
    "DECODER_MISSING": "Pixel data are compressed in a way for which no decoder is installed.",
    "SPACING_TOO_WIDE": "Voxels are more than 5 mm apart along an axis.",
    "VOXEL_TOO_LARGE": "Voxels are more than 10 mm apart along an axis.",
    "AFFINE_SINGULAR": "The axes of the volume do not span a space.",
    "AFFINE_NOT_FINITE": "The position of the volume holds a number that is not finite.",
    "NIFTI_UNREADABLE": "The file is not NIfTI, or damaged.",
    "NIFTI_NOT_3D": "The NIfTI file does not hold exactly one volume of three axes.",
    "NIFTI_NOT_NUMBERS": "The voxels of the NIfTI file are no plain numbers.",
    "NIFTI_NO_POSITION": "The NIfTI file says nothing of where its voxels lie in the patient.",
    "NIFTI_UNITS": "The NIfTI file measures in other units than millimetres.",
    "NIFTI_NOT_FINITE": "Voxels near the nodule are NaN or infinite.",
}

# code -> what it stands for; the nodule is scored all the same
WARNING_CODES: dict[str, str] = {
    "SPACING_WIDE": "Voxels are more than 2.5 mm apart along an axis: small nodules are blurred.",
    "CENTER_IN_AIR": "Around the centre is nothing but air: it may lie outside the body, or in an airway.",
}
