"""Every code that a run of scoring may end in beside those of the worklist and of the series, as literal tables.

Programs match on codes; they stay the same over releases. `docs/input.md` shows these tables.
"""

from __future__ import annotations

# code -> what it stands for; of the client, or of the client about its server
CLIENT_CODES: dict[str, str] = {
    "SERVER_UNREACHABLE": "No server answers at the address; no run begins.",
    "SERVER_NOT_NODULESERVE": "A server answers, but serves no release of noduleserve; no run begins.",
    "SERVER_NOT_SCORING": "A server is there, but does not score a test nodule; no run begins.",
    "SHARED_MEMORY_ELSEWHERE": "The server does not see this machine's shared memory; no run begins.",
    "SHARED_MEMORY_FULL": "This machine has no shared memory left for voxels; no run begins.",
    "SERVERS_DIFFER": "The servers serve different releases; no run begins.",
    "SERVER_GONE": "No server was there for too long; the run broke off, and goes on where it stopped.",
    "SERVER_LOST": "The connection broke while the nodule was being scored, each time that it was tried.",
    "SERVER_STOPPING": "The server was told to end before it scored the nodule, each time that it was tried.",
    "SERVER_BUSY": "The server took no more requests, each time that it was tried.",
    "SERVER_BROKEN": "A model of the server has crashed, each time that the nodule was tried.",
    "SERVER_REFUSED": "Triton itself refused the request; its sentence says why.",
    "ANSWER_LATE": "The answer did not come within the deadline, each time that the nodule was tried.",
    "ANSWER_MALFORMED": "The answer is not what the release promises, or no probability.",
    "RELEASE_CHANGED": "An answer is of another release than the run began with; the run broke off.",
    "READER_CRASHED": "Reading the series or the nodule kills the reader's process.",
    "READERS_NOT_STARTED": "No process that reads series can be started; the run broke off.",
    "WORKLIST_ROW": "The nodule's row of the worklist cannot be used; the sentence says why.",
    "CLIENT_ERROR": "The client failed in a way that nobody foresaw; only the kind of error is told.",
}

# code -> what it stands for; of one request, refused by the preprocessing before anything is computed
REQUEST_CODES: dict[str, str] = {
    "AXES_NOT_THREE": "The voxels are empty or have not three axes.",
    "VOLUME_SHAPE_INVALID": "A voxel count of the volume is not positive.",
    "AFFINE_NOT_FINITE": "The affine holds NaN or infinity.",
    "AFFINE_NOT_AFFINE": "The last row of the affine is not 0, 0, 0, 1.",
    "AFFINE_SINGULAR": "The axes of the volume do not span a space.",
    "VOXEL_TOO_LARGE": "Voxels are more than 10 mm apart along an axis.",
    "CENTER_NOT_FINITE": "A coordinate of the centre is NaN or infinite.",
    "CENTER_OUTSIDE": "The centre lies in no voxel of the volume.",
    "BOX_OUTSIDE": "The box reaches beyond the volume.",
    "BOX_TOO_SMALL": "The box does not cover what the cube around the nodule needs.",
}

# code -> what it stands for; of one request, refused by the models that come after the preprocessing
MODEL_CODES: dict[str, str] = {
    "RELEASE_MISMATCH": "Encoder and text bank are of two releases.",
    "SCORE_NOT_FINITE": "The encoder returned NaN or infinity.",
}
