"""The whole way, DICOM on disk to results, against the bare encoder on the same cores and the same nodules.

The bare encoder is the release's own engine in this process, one nodule at a time as Triton runs it, fed with views
that are ready in memory: the upper bound of what any server could do.  Server and encoder are never busy at the same
time: the engine's threads stop at the end of a run.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from noduleserve.client.run import Options, score_worklist
from noduleserve.release import Release
from noduleserve.results.outcome import Outcome
from noduleserve.served_engine import load_engine_module
from noduleserve.server.process import Endpoints, TritonProcess
from noduleserve.worklist.table import Nodule

from ..measure import Ratio, ratio, seconds
from ..served_engine import encoder_folder

LATENCY_ROOM_S = 0.05


def bench_serving(
    release: Release, nodules: Sequence[Nodule], count: int = 40, turns: int = 3, tell: Callable[[str], None] = print
) -> list[Ratio]:
    """Measure throughput of `count` nodules and the latency of single ones.

    Args:
        release: of target `embedded`.
        nodules: scored again and again until there are `count`.
        count: nodules of one turn.
        turns: how often each way is timed.
        tell: is called with a line of progress.

    Raises:
        ReleaseError: TARGET_OTHER.
    """
    folder = encoder_folder(release)
    many = [replace(nodules[i % len(nodules)], number=i) for i in range(count)]
    with TritonProcess(release, Endpoints(grpc=0, http=0, metrics=0)) as server:
        address = server.endpoints.address
        views = _views(score_worklist(nodules, address, options=Options(views=True)).outcomes)
        engine = load_engine_module(folder).open_engine(folder, log=tell)
        each = [views[i % len(views) : i % len(views) + 1] for i in range(count)]
        work = _Work(engine, each, many, address)
        few = replace(work, each=each[:10], nodules=many[:10])
        return [
            _in_turns("throughput, DICOM on disk to results", work.throughput, 0.95, turns, tell),
            _in_turns("latency of a nodule alone, within 1.1 x encoder + 50 ms", few.latency, 1.0, turns, tell),
        ]


def _in_turns(
    name: str, turn: Callable[[], tuple[float, float]], goal: float, turns: int, tell: Callable[[str], None]
) -> Ratio:
    """Take several turns, each of which measures the server and the bare encoder."""
    pairs = []
    for number in range(turns):
        pairs.append(turn())
        tell("turn {}, {}: served {:.3f} s, bare encoder {:.3f} s".format(number + 1, name, *pairs[-1]))
    return ratio(name, ("served", "bare encoder"), pairs, goal)


@dataclass(frozen=True)
class _Work:
    """The same nodules for both ways.

    Attributes:
        encode: the bare encoder.
        each: views [1,9,50,50] of every nodule.
        nodules: to be scored by the server.
        address: of the server.
    """

    encode: Callable[[NDArray[np.float32]], object]
    each: Sequence[NDArray[np.float32]]
    nodules: Sequence[Nodule]
    address: str

    def throughput(self) -> tuple[float, float]:
        """Seconds of all nodules: the whole way, the bare encoder."""
        bare = sum(self._encoder_alone())
        whole = score_worklist(self.nodules, self.address)
        _require_all_scored(whole.outcomes)
        return whole.seconds, bare

    def latency(self) -> tuple[float, float]:
        """Seconds of one nodule: request sent until answer, one in flight; and 1.1 times the encoder alone + 50 ms."""
        bare = statistics.median(self._encoder_alone())
        outcomes = score_worklist(self.nodules, self.address, options=Options(in_flight=1)).outcomes
        _require_all_scored(outcomes)
        served = statistics.median(outcome.seconds["server"] for outcome in outcomes)
        return served, 1.1 * bare + LATENCY_ROOM_S

    def _encoder_alone(self) -> list[float]:
        return [seconds(partial(self.encode, views)) for views in self.each]


def _views(outcomes: Sequence[Outcome]) -> NDArray[np.float32]:
    _require_all_scored(outcomes)
    return np.stack([outcome.views for outcome in outcomes if outcome.views is not None])


def _require_all_scored(outcomes: Sequence[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.score is None]
    if failed:
        raise AssertionError(f"{len(failed)} nodules were not scored ({failed[0].error_code}); no timing counts")
