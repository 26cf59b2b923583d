"""Proving a release again where it lies: its hashes, its manifest, and its encoder as Triton serves it.

The release carries views of nodules that no patient ever had, and what PyTorch made of them when it was exported
(proof.npz). They are sent to the nodule_encoder of a private server, alone and in every slot of every batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from noduleserve.errors import ParityError
from noduleserve.export.proof.outputs import NAMES, Outputs, alone
from noduleserve.export.proof.parity import QUANTITIES, TOLERANCE, Link, Slots, measure_link, measure_slots
from noduleserve.export.targets import MAX_BATCH, Encoding
from noduleserve.release import Release

ANSWER_S = 300.0


@dataclass(frozen=True)
class Verified:
    """What was measured.

    Attributes:
        link: what the checkpoint computed in PyTorch -> what Triton serves.
        slots: what Triton serves, alone and in batches.
    """

    link: Link
    slots: Slots

    def require(self) -> None:
        """Raise ParityError (PARITY_MISSED) if a tolerance is missed."""
        missed = [f"{q} {max(self.link.largest[q]):.3g} (at most {self.link.tolerance[q]:g})" for q in self.link.missed]
        if self.slots.missed:
            missed.append(f"probability over slots {self.slots.largest:.3g} (at most {self.slots.tolerance:g})")
        if missed:
            raise ParityError(
                "PARITY_MISSED",
                f"Served on this machine, the encoder does not compute what its checkpoint computes: "
                f"{', '.join(missed)}.",
                "Do not serve it here; build its engine again, or serve the release before it.",
            )


def verify_served(release: Release, address: str, tell: Callable[[str], None] = lambda _: None) -> Verified:
    """Run the proof of a release against a server.

    Args:
        release: whose proof.npz says what to send and what must come back.
        address: HOST:PORT of gRPC.
        tell: is called with a line of progress before each long step.

    Raises:
        ParityError: ENCODER_NOT_OF_RELEASE.
    """
    with np.load(release.folder / "proof.npz", allow_pickle=False) as stored:
        views = stored["views"]
        wanted = Outputs(*(stored[f"reference_{name}"] for name in Outputs._fields))
    encoding = Encoding(release.manifest["target"], release.manifest["precision"])
    with triton.InferenceServerClient(address) as client:

        def served(batch: NDArray[np.float32]) -> Outputs:
            tensor = triton.InferInput("VIEWS", list(batch.shape), "FP32")
            tensor.set_data_from_numpy(batch)
            answer = client.infer("nodule_encoder", [tensor], client_timeout=ANSWER_S)
            if (answer.as_numpy("ENCODER_ID") != np.array(release.manifest["encoder_id"], np.int32)).any():
                raise ParityError("ENCODER_NOT_OF_RELEASE", "The server's encoder is another release's.")
            return Outputs(*(answer.as_numpy(name) for name in NAMES))

        tell(f"{len(views)} nodules one by one")
        single = alone(served)(views)
        tell("every slot of every batch size")
        slots = measure_slots(served, views, single, range(1, MAX_BATCH + 1), encoding.slots_tolerance)
    link = measure_link("served", ("PyTorch, merged", wanted), ("served by Triton", single), served_tolerance(encoding))
    return Verified(link, slots)


def served_tolerance(encoding: Encoding) -> dict[str, float]:
    """What each quantity may be away from PyTorch: the links `graph` and `precision` together."""
    if encoding.precision == "fp32":
        return TOLERANCE["graph"]
    return {q: TOLERANCE["graph"][q] + TOLERANCE[encoding.precision][q] for q in QUANTITIES}


def verify(
    folder: Path,
    *,
    log: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Release, Verified]:
    """Check a release's hashes and manifest, serve it on this machine, and run its proof.

    Raises:
        ReleaseError: what is wrong with the release; ServerError: why it could not be served here.
    """
    from noduleserve.manifest import check_schema
    from noduleserve.server.process import Endpoints, TritonProcess

    tell("every byte of the release")
    release = Release.open(folder)
    check_schema(release.manifest)
    tell("starting Triton")
    with TritonProcess(release, Endpoints(grpc=0, http=0, metrics=0), log=log) as server:
        return release, verify_served(release, server.endpoints.address, tell)
