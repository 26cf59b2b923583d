"""What a row's scores are held against: the checkpoint in PyTorch, float32, by the straightforward method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import ReleaseError
from noduleserve.export.proof.outputs import probability
from noduleserve.release import Release

from .base import Case
from .graph import fp32_graph
from .missing import require

TOLERANCE = 1e-4  # of a probability


@dataclass(frozen=True)
class Yardstick:
    """The scores that are right.

    Attributes:
        expected: each fold's probability of cancer [F], not calibrated, by the name of the case.
        what: a sentence on where they come from.
    """

    expected: Mapping[str, NDArray[np.float64]]
    what: str

    @classmethod
    def of(
        cls,
        release: Release,
        cases: Sequence[Case],
        checkpoint: Path | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Yardstick:
        """Compute them.

        Args:
            release: whose scores are held against it.
            cases: all that will be asked about.
            checkpoint: that the release was made from; without one the release's own FP32 graph stands in for it.
            tell: is called with a line of progress.

        Raises:
            NoduleserveError: EXTRA_MISSING.
            ReleaseError: WEIGHTS_OTHER, the checkpoint is not the one that the release was made from; GRAPH_NOT_FP32.
            CheckpointError: what `read_contents` and `merge` raise.
        """
        require("scipy", *(("torch", "open_clip") if checkpoint else ()))
        tell(f"computing the scores of {len(cases)} nodules that all others are held against")
        if checkpoint is not None:
            return cls(_by_torch(release, cases, checkpoint, tell), _TORCH)
        return cls(_by_graph(release, cases), _GRAPH + parity_sentence(release))

    def difference(self, name: str, raw: NDArray) -> float:
        """Largest absolute difference of any fold's probability; infinite where a number is missing or is none.

        Args:
            name: of the case.
            raw: each fold's probability, not calibrated.
        """
        expected, raw = self.expected[name], np.asarray(raw, np.float64)
        if raw.shape != expected.shape or not np.isfinite(raw).all():
            return float("inf")
        return float(np.abs(raw - expected).max())

    def counts(self, name: str, raw: NDArray) -> bool:
        """Whether a score is right, so that the time it took may be told."""
        return self.difference(name, raw) <= TOLERANCE


_TORCH = (
    "Scores are held against the checkpoint in PyTorch: float32 on the CPU, fold by fold, views by scipy from the box; "
    "none of it is code that Triton runs."
)
_GRAPH = "Scores are held against the release's own FP32 graph on ONNX Runtime, with views by scipy from the box. "


def _by_torch(
    release: Release, cases: Sequence[Case], folder: Path, tell: Callable[[str], None]
) -> dict[str, NDArray[np.float64]]:
    from noduleserve.export.checkpoint.read import Asked, merge, read_contents

    from .straightforward import Folds, score_box

    facts, contents = release.manifest["checkpoint"], read_contents(folder, tell=tell)
    if contents.sha256 != facts["files"]:
        differing = sorted({file for file, _ in contents.sha256.items() ^ facts["files"].items()})
        raise ReleaseError(
            "WEIGHTS_OTHER",
            f"The release was made from another checkpoint: {', '.join(differing[:3])} differs.",
            "Name the checkpoint that the release was exported from.",
        )
    state: Asked = facts["lora_state"] if facts["lora_state"] else "auto"
    checkpoint = merge(contents, lora_state=state, reproduce_published=facts["reproduces_published"], tell=tell)
    folds = Folds(checkpoint, "cpu")
    return {case.name: score_box(folds, case) for case in cases}


def _by_graph(release: Release, cases: Sequence[Case]) -> dict[str, NDArray[np.float64]]:
    import onnxruntime

    from .scipy_method import views_of_box

    session = onnxruntime.InferenceSession(str(fp32_graph(release)), providers=["CPUExecutionProvider"])
    expected = {}
    for case in cases:
        shape, affine = case.geometry.shape, case.geometry.affine
        views = views_of_box(case.voxels, case.box.start, shape, affine, case.center)
        (logits,) = session.run(["LOGITS"], {"VIEWS": views[None]})
        expected[case.name] = probability(logits[0])
    return expected


def parity_sentence(release: Release) -> str:
    """How far the release's graph is from its checkpoint in PyTorch, as its export measured it."""
    parity = release.manifest["parity"]
    for link in parity["links"]:
        if link["name"] == "graph":
            largest = max(link["largest"]["probability"])
            return (
                f"Of that graph the release's parity proof says: {largest:.1e} from PyTorch at most, in any fold's "
                f"probability, over {parity['nodules']} nodules ({parity['source']})."
            )
    return "The release's parity proof does not say how far that graph is from PyTorch."
