"""What comes back for a nodule: a score, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.doubt import InputWarning
from noduleserve.worklist.table import Nodule


@dataclass(frozen=True, eq=False)
class ReleaseInfo:
    """What a served release says of itself.

    Attributes:
        release: release id.
        folds: number of folds F.
        calibrated: whether MALIGNANCY is calibrated.
        labels: name of each of the S values of SEMANTIC, "<feature>.<value>".
        notice: a sentence that every output must carry ("untrained demo weights"), or "".
    """

    release: str
    folds: int
    calibrated: bool
    labels: tuple[str, ...]
    notice: str = ""


@dataclass(frozen=True, eq=False)
class Score:
    """The answer of nodule_score for one nodule.

    Attributes:
        malignancy: probability of cancer within a year, mean over folds, calibrated where the release is.
        raw: each fold's probability, float32 [F].
        calibrated: each fold's calibrated probability, float32 [F]; NaN where the release has no calibration.
        semantic: probability of each value of each semantic feature, float32 [S], in the order of ReleaseInfo.labels.
        embedding: L2-normalised, float32 [F, 256].
        view_attention: the pooling weights of the nine views, float32 [F, 9].
        release: id of the release that answered.
    """

    malignancy: float
    raw: NDArray[np.float32]
    calibrated: NDArray[np.float32]
    semantic: NDArray[np.float32]
    embedding: NDArray[np.float32]
    view_attention: NDArray[np.float32]
    release: str


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one nodule of the worklist; exactly one of `score` and `error_code` is there.

    Attributes:
        nodule: as the worklist has it.
        score: the answer, or None.
        error_code: stable code of what went wrong, or "".
        error: what went wrong and how to mend it, or "".
        seconds: wall time by stage for this nodule: "open" (headers of its series, counted for the first nodule only),
            "box" (reading its voxels), "wait" (for room: in the byte budget, and among those in flight), "server"
            (request sent until answer).
        views: the nine views, float32 [9, 50, 50], where they were asked for.
        warnings: what is doubtful about its series and its place in it; none where no voxels could be read.
        series_uid: SeriesInstanceUID of the series that was opened, or "" where it could not be, or has none.
        resumed: whether an earlier run came to this outcome.
        scanner: Manufacturer, ManufacturerModelName, ConvolutionKernel, SliceThickness of its series, as DICOM has
            them, and Spacing, millimetres between slices; empty where unknown.
    """

    nodule: Nodule
    score: Score | None = None
    error_code: str = ""
    error: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    views: NDArray[np.float32] | None = None
    warnings: tuple[InputWarning, ...] = ()
    series_uid: str = ""
    resumed: bool = False
    scanner: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """`scored` or `failed`."""
        return "failed" if self.score is None else "scored"
