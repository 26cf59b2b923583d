"""Every code that an evaluation can be refused with, and what it stands for.

Codes are for programs: they stay the same over releases. The sentence that comes with an error names the file,
the line and the mend; the one here says what the code stands for.
"""

from __future__ import annotations

# code -> what it stands for
EVALUATION_CODES: dict[str, str] = {
    "BASELINE_COLUMN": "There is no column of that name to take as the baseline.",
    "BASELINE_INVALID": "A cell of the baseline's column is not a number.",
    "EVALUATION_OPTION": "An option of the evaluation cannot be read, or does not fit the others.",
    "EVALUATION_UNWRITABLE": "The report or the file of numbers cannot be written.",
    "KEY_AMBIGUOUS": "The column nodule_id alone does not tell the nodules of the results apart.",
    "KEY_MISSING": "A column that results and labels are joined by is absent, or a cell of it is empty.",
    "LABELS_COLUMNS": "The labels have no column to evaluate against, two of the same name, or two for one feature.",
    "LABELS_DUPLICATE": "The labels have two rows for one nodule.",
    "LABELS_UNREADABLE": "The labels cannot be opened, or are not CSV in UTF-8.",
    "LABEL_INVALID": "A label is none of the values that it may have.",
    "NOTHING_LABELLED": "No nodule of the results has a label.",
    "NOTHING_SCORED": "Every nodule that has a label failed: there is no score to evaluate.",
    "POSITIVE_RULE": "A rule of --positive cannot be read, or names a feature, value or column that is not there.",
    "RELEASE_ABSENT": "No scored row is of the release that was asked for.",
    "RELEASES_MIXED": "The results hold scores of several releases, and none was chosen.",
    "RESULTS_COLUMNS": "The results lack a column, or have one twice.",
    "RESULTS_DUPLICATE": "The results have two rows for one nodule.",
    "RESULTS_FORMAT": "The results are in a format that cannot be read.",
    "RESULTS_INCOMPLETE": "The results are the part file of a run that broke off or is still going on.",
    "RESULTS_SCORE": "A scored row has no number from 0 to 1 where its score should be.",
    "RESULTS_STATUS": "A row's status is none that is known.",
    "RESULTS_UNREADABLE": "The results cannot be opened, or are not CSV in UTF-8.",
    "SUBGROUP_COLUMN": "There is no column of that name to form subgroups by.",
    "SUBGROUP_MANY": "A column would form more subgroups than can be looked at.",
    "SUBGROUP_NUMBER": "A cell that is to be sorted into bins is not a number.",
}
