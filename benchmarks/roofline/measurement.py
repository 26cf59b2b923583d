"""The encoder and the machine's own limits, timed in the same turns, so that each share is of its own moment."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from noduleserve.export.encoder.embedded import FP32_GRAPH
from noduleserve.release import Release
from noduleserve.served_engine import load_engine_module

from ..measure import interleaved
from ..served_engine import encoder_folder
from .machine_peak import cores, peak_ways

KINDS = ("fp32", "int8", "triad")


class Spread(NamedTuple):
    """A rate over the turns: median, lowest, highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, rates: Sequence[float]) -> Spread:
        """What the turns' rates come to."""
        return cls(statistics.median(rates), min(rates), max(rates))


@dataclass(frozen=True)
class Measured:
    """What was timed on this machine.

    Attributes:
        peaks: by kind ("fp32", "int8": operations a second; "triad": bytes a second) and threads, a rate a turn.
        encoders: by precision: nodules a second, a turn each; empty where the release runs on no CPU.
        cores: that took part.
        flags: of the processor.
    """

    peaks: dict[tuple[str, int], list[float]]
    encoders: dict[str, list[float]]
    cores: int
    flags: frozenset[str]

    def peak(self, kind: str, threads: int | None = None) -> Spread:
        """One of the machine's own rates; by default that of all cores."""
        return Spread.of(self.peaks[kind, threads or self.cores])

    def roof(self, kind: str) -> float:
        """What all cores can do: the highest rate of any turn, since whatever else ran only took from it."""
        return max(self.peaks[kind, self.cores])

    def gain(self, threads: int | None = None) -> Spread:
        """How many times faster products in INT8 are than in FP32, turn by turn."""
        both = (self.peaks[kind, threads or self.cores] for kind in ("int8", "fp32"))
        return Spread.of([int8 / fp32 for int8, fp32 in zip(*both, strict=True)])

    def share(self, precision: str, flop: float) -> Spread:
        """Which share of the roof of products in that precision the encoder reaches, turn by turn.

        Args:
            precision: of the encoder; BF16 is held against FP32, since that is what was measured.
            flop: of a nodule.
        """
        roof = self.roof(precision if precision in KINDS else "fp32")
        return Spread.of([rate * flop / roof for rate in self.encoders[precision]])


def measure(release: Release, turns: int, views: NDArray[np.float32], tell: Callable[[str], None]) -> Measured:
    """Time the machine's limits, and the encoder where the release's target is `embedded`.

    Args:
        release: whose encoder it is.
        turns: how often each is timed.
        views: of the nodule that the encoder is run on, [1, 9, 50, 50].
        tell: is called with a line of progress.
    """
    ways = peak_ways()
    engines = _engines(release, views, tell)
    tell(f"{turns} turns: products, memory and {len(engines)} encoders")
    runs: dict[tuple[str, int], Callable[[], object]] = {key: way.run for key, way in ways.items()}
    times = interleaved(runs | {(f"encoder {name}", 0): run for name, run in engines.items()}, turns)
    return Measured(
        {key: [way.amount / seconds for seconds in times[key]] for key, way in ways.items()},
        {name: [1 / seconds for seconds in times[f"encoder {name}", 0]] for name in engines},
        cores(),
        cpu_flags(),
    )


def cpu_flags() -> frozenset[str]:
    """What this processor can do, as Linux names it; nothing where that is not known."""
    file = Path("/proc/cpuinfo")
    for line in file.read_text().splitlines() if file.exists() else ():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):  # x86, Arm
            return frozenset(flags.split())
    return frozenset()


def _engines(
    release: Release, views: NDArray[np.float32], tell: Callable[[str], None]
) -> dict[str, Callable[[], object]]:
    """The release's encoder on one nodule, and the same in FP32 where it is of another precision."""
    if release.manifest["target"] != "embedded":
        tell(f"the encoder is of target {release.manifest['target']}: counted, not run")
        return {}
    folder = encoder_folder(release)
    module = load_engine_module(folder)
    engine = module.open_engine(folder, log=tell)
    engines: dict[str, Callable[[], object]] = {engine.way.precision: partial(engine, views)}
    if engine.way.precision != "fp32":
        full = module.Way("fp32", "onnxruntime", FP32_GRAPH).load(folder, module.threads_wanted())
        engines["fp32"] = partial(full, views)
    return engines
