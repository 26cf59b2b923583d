"""Every code that a training can be refused with, and what it stands for.

The weights that a training begins with are read as a checkpoint's are, whose codes are those of the export.
"""

from __future__ import annotations

# code -> what it stands for
TRAINING_CODES: dict[str, str] = {
    "BASE_FOLDS": "The checkpoint to go on from has several folds.",
    "BASE_NOT_FOUND": "There is no file of the base's weights.",
    "CROPS_UNREADABLE": "The folder of crops lacks something, or is damaged.",
    "DEVICE_ABSENT": "The device that was asked for is not there.",
    "HELD_OUT_SEEN": "What the training begins with was trained on patients who are to be held out.",
    "LABELS_INVALID": "A worklist has nothing to learn from, or a cell that cannot be what it says.",
    "LIDC_NOT_FOUND": "The folder has no patient of LIDC-IDRI.",
    "LOSS_NOT_FINITE": "The loss became infinite or no number.",
    "NODULES_UNREADABLE": "Nodules cannot be read from their series.",
    "OUT_EXISTS": "The folder of the checkpoint exists already.",
    "PACKAGE_MISSING": "The source needs a Python package that is not installed.",
    "PARTS_UNWRITABLE": "The table of the parts cannot be written.",
    "RECIPE_INVALID": "The recipe has an unknown key, or a value that cannot be.",
    "RECIPE_UNREADABLE": "The recipe cannot be opened, or is neither TOML nor JSON.",
    "RECORD_UNREADABLE": "The record of the checkpoint to go on from cannot be read.",
    "RESUME_MISMATCH": "What is to be resumed is a training of other data, towers or another recipe.",
    "RESUME_NOTHING": "There is no training to resume.",
    "RESUME_UNREADABLE": "The state of an interrupted training cannot be read.",
    "SCORES_UNWRITABLE": "The table of the held-out patients' scores cannot be written.",
    "SOURCE_UNKNOWN": "There is no source of training data of that kind.",
    "SPLIT_TOO_FEW": "There are fewer patients than parts to split them into.",
    "TOWERS_CONFIG": "The configuration of the towers cannot be read, or lacks something.",
    "TOWERS_UNCLEAR": "It was not said, or said twice, what the training begins with.",
    "TOWERS_UNSUPPORTED": "The towers are not those of a network that can be served.",
    "TOWERS_UNTRAINED": "Towers that are drawn at random would be left so.",
    "TRAINING_STARTED": "A training to the same folder was begun and not finished.",
}
