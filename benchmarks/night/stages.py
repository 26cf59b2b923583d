"""Where the time of a night went: work and waits by stage, and what of the wall time the encoder was not busy for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .night import Night

ENCODER, PREPROCESS, HEAD, ENSEMBLE = "nodule_encoder", "nodule_preprocess", "nodule_similarity", "nodule_score"
Kind = Literal["work", "wait"]
_TRANSPORT = "request to answer less Triton's own time: copies, gRPC, earlier answers of the same stream"
_BETWEEN = "Triton's time of the ensemble less that of its models, which may hand on before their clock stops"


@dataclass(frozen=True)
class Stage:
    """A part of a nodule's way.

    Attributes:
        name: in tables.
        where: which process has it.
        kind: whether something is computed, read or written, or waited for, be it for the bytes to arrive.
        seconds: of all nodules, each added up by itself: what runs side by side counts as often.
        how: where the figure comes from.
    """

    name: str
    where: str
    kind: Kind
    seconds: float
    how: str


def stages_of(night: Night) -> list[Stage]:
    """Every stage in the order in which a nodule passes them.

    The stages from "transport" to "head" add up to all that the client waited between requests and answers.
    """
    client, models = night.client, night.models
    parts = [models[name] for name in (PREPROCESS, ENCODER, HEAD)]
    inside = models[ENSEMBLE].whole_s
    between = inside - sum(part.queue_s + part.counted_s for part in parts)
    stages = [
        Stage("open series", "reader", "work", client["open"], "client's clock: headers of every file of the scan"),
        Stage("read box", "reader", "work", client["box"], "client's clock: bytes, decoding, Hounsfield units"),
        Stage("room", "client", "wait", client["wait"], "client's clock: byte budget, and nodules in flight"),
        Stage("transport", "client, Triton", "wait", client["server"] - inside, _TRANSPORT),
        Stage("between models", "Triton", "wait", between, _BETWEEN),
    ]
    for name, title in ((PREPROCESS, "preprocessing"), (ENCODER, "encoder"), (HEAD, "head")):
        part = models[name]
        waits = part.queue_s + part.counted_s - part.busy_s
        stages.append(Stage(f"queue of {title}", "Triton", "wait", waits, "Triton's clock; others of a batch included"))
        stages.append(Stage(title, "Triton", "work", part.busy_s, "Triton's clock, each batch counted once"))
    journal = night.journal
    return [
        *stages,
        Stage("journal, lines", "client", "work", journal["lines"], "journal's clock: records to lines, checksums"),
        Stage("journal, disk", "client", "work", journal["disk"], "journal's clock: written and synced in batches"),
        Stage("journal, index", "client", "work", journal["index"], "journal's clock: lines read back into the index"),
        Stage("results", "client", "work", night.results_s, "clock around the writing of results.csv, at the end"),
    ]


@dataclass(frozen=True)
class Wall:
    """A night's wall time, taken apart without remainder.

    Attributes:
        encoder: seconds that it would have taken the bare encoder.
        slower: that the encoder was busy for longer than that, since others used the same cores.
        start: until the first answer, the encoder's own time for it left out.
        gaps: between first and last answer, the encoder not busy.
        journal: from the last answer until the last line of the journal was on the disk.
        results: until the results were in their place.
        instances: of the encoder, among which its busy time is divided.
    """

    encoder: float
    slower: float
    start: float
    gaps: float
    journal: float
    results: float
    instances: int = 1

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.encoder + self.slower + self.start + self.gaps + self.journal + self.results

    @property
    def utilisation(self) -> float:
        """Share of the wall time that the encoder was busy for."""
        return (self.encoder + self.slower) / self.seconds

    def parts(self) -> dict[str, float]:
        """Its parts by the names that tables have."""
        return {
            "encoder, as fast as alone": self.encoder,
            "encoder slower than alone": self.slower,
            "before the first answer": self.start,
            "encoder idle between answers": self.gaps,
            "last answer to journal on disk": self.journal,
            "results written": self.results,
        }


def wall_of(night: Night, bare: float, instances: int = 1) -> Wall:
    """Take a night's wall time apart.

    Args:
        night: see Night.
        bare: seconds of the bare encoder for as many nodules.
        instances: of the encoder.
    """
    busy = night.models[ENCODER].busy_s / instances
    each = busy / len(night.answers)
    first, last = night.answers[0], night.answers[-1]
    return Wall(
        encoder=bare,
        slower=busy - bare,
        start=first - each,
        gaps=last - first - (busy - each),
        journal=night.on_disk_s - last,
        results=night.results_s,
        instances=instances,
    )
