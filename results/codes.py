"""Every code that writing results may end in, as a literal table.

Programs match on codes; they stay the same over releases.
"""

from __future__ import annotations

# code -> what it stands for; the SR of one series is not written, its scores stand in the table all the same
RESULT_CODES: dict[str, str] = {
    "SR_NEEDS_DICOM": "The series was not read from DICOM, so there is no patient and no study for an SR to belong to.",
    "SR_NO_REFERENCE": "The series lacks a UID that an SR must refer to.",
    "SR_SOURCE_UNREADABLE": "The header of the series' file cannot be read, or is not of the series.",
    "SR_HEADER_UNFIT": "Patient or study of the series' header cannot be carried over into an SR.",
    "SR_OTHER_SERIES": "A nodule is of another series, or lies outside this one.",
    "SR_NOTHING_SCORED": "No nodule of the series has a score.",
    "SR_SCORE_INVALID": "A score is of another release than the run, or holds a number that is no probability.",
    "SR_NAME_TAKEN": "A file that is no SR of the series stands under a name that its SR would have.",
    "SR_UNWRITABLE": "The SR cannot be written.",
}

# code -> what it stands for; what was asked for is not written, and nothing else is touched
REPORT_CODES: dict[str, str] = {
    "RESULTS_UNWRITABLE": "A report, a picture or a table cannot be written.",
}

# code -> what it stands for; the run does not begin, or the output named is as it was before
OUTPUT_CODES: dict[str, str] = {
    "OUTPUT_FORMAT_UNKNOWN": "The name of an output does not say in which format it is to be written.",
    "OUTPUT_TWICE": "Two outputs would be the same file or folder.",
    "OUTPUT_COLUMNS": "The worklist has a column under whose name results are written.",
    "OUTPUT_OTHER_RELEASE": "A score is of another release than the run: its numbers would stand under wrong names.",
    "OUTPUT_NOT_WRITTEN": "The output cannot be written: disk, permissions, or a database that another program holds.",
    "OUTPUT_IN_USE": "Another run is writing the same output.",
    "OUTPUT_FOREIGN": "The file is no database of results, and is left as it is.",
    "OUTPUT_NEWER": "The database of results was written by a later noduleserve than this one.",
    "RUN_INCOMPLETE": "Rows of the worklist have no outcome in the journal: its run broke off or is still going on.",
    "OUTPUT_NEEDS_PACKAGE": "The format is written with a Python package that is not installed.",
}
