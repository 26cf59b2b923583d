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
    "SERIES_TILTED_TOO_FAR": "The stack runs at more than 30 degrees to the normal of its slices.",
    "SERIES_TOO_LARGE": "The volume, or a slice of it, claims more voxels than any scanner makes.",
    "SERIES_NOT_IN_FOLDER": "The series that was asked for is not there.",
    "BOX_TOO_LARGE": "The part of the volume that was asked for does not fit into memory.",
    "ARCHIVE_UNREADABLE": "The archive is damaged, encrypted or packed in a way that is not read.",
    "ARCHIVE_UNSAFE": "The archive holds links, devices, or paths that lead out of it.",
    "ARCHIVE_TOO_LARGE": "The archive holds too many files, or unpacks to too many bytes.",
    "SERIES_UNREADABLE": "A reader failed in a way that nobody foresaw; only the kind of error is told.",
    "NOT_CT": "The folder holds DICOM, but no CT slice.",
    "NOT_HOUNSFIELD": "The stored numbers are not Hounsfield units.",
    "FORMAT_UNKNOWN": "The file is of no format that is read.",
    "FILE_TOO_LARGE": "A deflated file inflates to more than a gigabyte.",
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
    "NIFTI_PAIR": "The volume is one half of a NIfTI pair (.hdr and .img).",
    "FORMAT_NEEDS_PACKAGE": "Reading this format needs a Python package that is not installed.",
    "ITK_UNREADABLE": "The file is not NRRD or MetaImage, or damaged.",
    "ITK_NOT_3D": "The NRRD or MetaImage file does not hold exactly one volume of three axes.",
    "ITK_NOT_NUMBERS": "The voxels of the NRRD or MetaImage file are no plain numbers.",
    "ITK_NO_POSITION": "The NRRD or MetaImage file says nothing of where its voxels lie in the patient.",
    "ITK_UNITS": "The NRRD or MetaImage file measures in other units than millimetres.",
    "ITK_NOT_FINITE": "Voxels near the nodule are NaN or infinite.",
    "ITK_DATA_MISSING": "The header names a file of voxels that is not there.",
    "ITK_DATA_FILES": "The header names a list of files, or one outside its own folder.",
}

# code -> what it stands for; the nodule is scored all the same
WARNING_CODES: dict[str, str] = {
    "SPACING_WIDE": "Voxels are more than 2.5 mm apart along an axis: small nodules are blurred.",
    "SERIES_TILTED": "The slices are stacked aslant, as with a tilted gantry; the volume is read as it lies.",
    "CENTER_IN_AIR": "Around the centre is nothing but air: it may lie outside the body, or in an airway.",
    "NIFTI_FORMS_DIFFER": "The two forms of a NIfTI file place its voxels more than 1 mm apart.",
    "VIEWS_BEYOND_VOLUME": "Part of the nine views lies outside the volume, where the model sees 0 HU.",
}
