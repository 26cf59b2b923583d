"""The mathematics behind the encoder: probabilities, calibration, semantic features. Pure functions, numpy only.

All of it is computed in float64: it is small, and a similarity is multiplied by up to 100 before its softmax.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class Head:
    """What a release knows beside its encoder.

    Attributes:
        bank: L2-normalised text embedding of each semantic value, float64 [F, S, D].
        scale: what each fold multiplies a cosine with, float64 [F].
        groups: for each semantic value the number of its feature, int64 [S], ascending.
        calibration: a, b, c of each fold's beta calibration, float64 [F, 3], or None.
    """

    bank: np.ndarray
    scale: np.ndarray
    groups: np.ndarray
    calibration: np.ndarray | None

    @classmethod
    def read(cls, folder: Path) -> "Head":
        """Read text_bank.npz and calibration.json."""
        with np.load(folder / "text_bank.npz", allow_pickle=False) as bank:
            parts = bank["embeddings"].astype(np.float64), bank["scale"].astype(np.float64), bank["groups"]
        numbers = json.loads((folder / "calibration.json").read_text())
        calibration = None if numbers is None else np.array([[n["a"], n["b"], n["c"]] for n in numbers])
        return cls(*parts, calibration)


def malignancy(logits: np.ndarray, calibration: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability of cancer: mean over the folds, each fold raw, each fold calibrated.

    Beta calibration is sigmoid(a ln p - b ln(1 - p) + c) (Kull et al. 2017). ln p and ln(1 - p) are taken from the
    logits, so that no probability is rounded to 0 or 1 before its logarithm.

    Args:
        logits: [N, F, 2], benign and malignant.
        calibration: a, b, c of each fold [F, 3], or None.

    Returns:
        [N] (of the calibrated where there is a calibration), raw [N, F], calibrated [N, F] (NaN where there is none).
    """
    odds = logits[..., 1].astype(np.float64) - logits[..., 0]
    raw = _sigmoid(odds)
    if calibration is None:
        return raw.mean(axis=1), raw, np.full_like(raw, np.nan)
    a, b, c = calibration.T
    ln_p, ln_not_p = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
    calibrated = _sigmoid(a * ln_p - b * ln_not_p + c)
    return calibrated.mean(axis=1), raw, calibrated


def similarity(embedding: np.ndarray, bank: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Scaled cosine of each nodule with each semantic value in each fold, [N, F, S]."""
    return np.einsum("nfd,fsd->nfs", embedding.astype(np.float64), bank) * scale[:, None]


def semantic(similarities: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Probability of each semantic value: softmax within its feature, mean over the folds.

    Args:
        similarities: [N, F, S].
        groups: for each value the number of its feature, [S], ascending.

    Returns:
        [N, S].
    """
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    highest = np.maximum.reduceat(similarities, starts, axis=-1)[..., groups]
    weight = np.exp(similarities - highest)
    return (weight / np.add.reduceat(weight, starts, axis=-1)[..., groups]).mean(axis=1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))
