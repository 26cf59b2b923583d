"""One call of a load, as it was meant and as it went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OVERLOADED = "OVERLOADED"  # a call that was still waiting when a run was ended as overloaded
LATE = "ANSWER_LATE"  # no answer within the deadline


@dataclass(frozen=True, eq=False)
class Call:
    """One call.

    Attributes:
        case: name of the nodule.
        intended: when it was to be sent, seconds of time.perf_counter.
        sent: when the generator did send it.
        answered: when the answer or the error came.
        raw: each fold's probability, [F], or None where an error came.
        error: its code, or the type of the exception; empty where an answer came.
    """

    case: str
    intended: float
    sent: float
    answered: float
    raw: NDArray[np.float64] | None
    error: str = ""

    @property
    def latency(self) -> float:
        """Seconds from when it was to be sent until it was answered: waiting that a stall caused is in it."""
        return self.answered - self.intended

    @property
    def lateness(self) -> float:
        """Seconds by which the generator itself was late."""
        return self.sent - self.intended
