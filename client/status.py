"""How an engine stands, for whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class EngineStatus:
    """Counts that change while an engine works; no data of any patient.

    Attributes:
        in_flight: requests sent and not answered.
        retries: requests sent again after a transient failure.
        series_done: series whose nodules have all been read.
        reserved: bytes of voxels that are read or sent and not answered.
        servers: known.
        servers_up: of them, those that are asked.
        readers: "processes" or "threads", and how many; "" before the first series.
    """

    in_flight: int = 0
    retries: int = 0
    series_done: int = 0
    reserved: int = 0
    servers: int = 0
    servers_up: int = 0
    readers: str = ""
