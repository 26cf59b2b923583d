"""DICOM SR: one Comprehensive 3D SR a series, a measurement group a nodule. `docs/sr.md` shows the tree."""
