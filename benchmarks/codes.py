"""Every code that a benchmark can end with, and what it stands for; codes of other rooms stand in their tables."""

from __future__ import annotations

# code -> what it stands for
BENCHMARK_CODES: dict[str, str] = {
    "CASES_NONE": "No nodule of the worklist could be read, so that there is nothing to measure with.",
    "COLUMN_UNKNOWN": "A column to be compared is in neither of two records.",
    "GRAPH_NOT_FP32": "The release holds no graph in FP32, which the ways to compare with run.",
    "NIGHT_INCOMPLETE": "A night that was measured did not score every nodule: no figure of it counts.",
    "PLAN_CARD": "A card to plan with is not in the table of cards.",
    "PLAN_PRECISION": "A card to plan with has not the precision asked for.",
    "PLAN_RECORD": "A record to plan with lacks the figures that it is asked for.",
    "READING_OTHER": "Read step by step, a box has other voxels than read as usual: no figure of it counts.",
    "RECORDS_UNLIKE": "Two records are of different benchmarks, or have no table in common.",
    "RECORD_DAMAGED": "A record is not what the format says.",
    "RECORD_FOLDER": "The folder for a record is there and not empty.",
    "RECORD_FOREIGN": "A JSON file is no record of a benchmark.",
    "RECORD_NOT_FOUND": "A record cannot be opened, or a folder holds none or several.",
    "RECORD_UNWRITABLE": "A record cannot be written.",
    "RECORD_VERSION": "A record is of another format than this version reads.",
    "RIVAL_NOT_READY": "A server to compare with did not start in time.",
    "RIVAL_REFUSED": "A server to compare with answered with an error.",
    "SOAK_BROKEN": "The night of a soak ended otherwise than it should.",
    "TARGET_OTHER": "The benchmark runs encoders in its own process, and the release is of another target.",
    "TUNING_IMPOSSIBLE": "The server could not be measured with the release's own settings.",
    "WEIGHTS_OTHER": "The checkpoint is not the one that the release was made of.",
}
