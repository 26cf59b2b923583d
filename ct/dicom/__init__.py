"""DICOM: from a folder of files, in any order and under any name, to one regular stack of slices.

Headers are read once a series, pixel data only of the slices that a box needs.
"""
