"""Every code that a worklist, or the making of one, can come back with, and what it stands for.

Codes are for programs: they stay the same over releases. The sentence that comes with an error names the file
and the mend; the one here says what the code stands for.
"""

from __future__ import annotations

# code -> what it stands for; of the worklist that is scored
TABLE_CODES: dict[str, str] = {
    "WORKLIST_NOT_FOUND": "There is no worklist of that name.",
    "WORKLIST_UNREADABLE": "The worklist cannot be opened, or is not text in UTF-8.",
    "WORKLIST_QUOTES": "Quotation marks are so misplaced that rows cannot be told apart.",
    "WORKLIST_COLUMNS": "A required column is missing, a name stands twice, or results are written under it.",
    "WORKLIST_EMPTY": "The worklist has no rows.",
    "WORKLIST_SEVERAL": "A list of the nodules of one series has nodules of several.",
    "WORKLIST_TOO_LARGE": "The worklist, or a line of it, is longer than any list of nodules.",
}

# code -> what it stands for; of a worklist that is made from marks
SOURCE_CODES: dict[str, str] = {
    "WORKLIST_EXISTS": "The file to write is there already.",
    "WORKLIST_UNWRITABLE": "The file cannot be written.",
    "WORKLIST_SOURCE_NOT_FOUND": "There is no file or folder of that name.",
    "WORKLIST_SOURCE_UNKNOWN": "The file is of no kind that marks nodules.",
    "WORKLIST_SOURCE_UNREADABLE": "The file is damaged, or not what it claims to be.",
    "WORKLIST_SOURCE_NOT_MASK": "The image is no mask: its voxels are not whole numbers from 0 on.",
    "WORKLIST_SOURCE_NO_NODULE": "Nothing in the file is taken for a nodule.",
    "WORKLIST_SOURCE_TOO_MANY": "The file marks more separate objects than there can be nodules.",
    "WORKLIST_SOURCE_OTHER_SERIES": "The marks were made on another CT series than the one given.",
    "WORKLIST_SOURCE_OTHER_FRAME": "The marks are in another frame of reference than the CT series.",
    "WORKLIST_SOURCE_OUTSIDE": "A mark lies outside the CT series.",
    "WORKLIST_SOURCE_AMBIGUOUS": "Several CT series may be the one that was marked.",
    "WORKLIST_SOURCE_NEEDS_SERIES": "The marks count in pixels of a CT series that is not there.",
    "WORKLIST_SOURCE_NEEDS_PACKAGE": "Reading this kind of source needs a Python package that is not installed.",
}

WORKLIST_CODES: dict[str, str] = {**TABLE_CODES, **SOURCE_CODES}
