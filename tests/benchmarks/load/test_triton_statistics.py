"""Differences of Triton's statistics: per request, several stretches together, and only once they have settled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tritonclient.grpc import service_pb2 as pb

from noduleserve.benchmarks.load.triton_statistics import loads_between, settled


def look(**requests: int) -> pb.ModelStatisticsResponse:
    """Every request waited 1 ms, was computed in 4 ms, two to a batch, and took 6 ms in all."""
    response = pb.ModelStatisticsResponse()
    for model, count in requests.items():
        found = response.model_stats.add(name=model, inference_count=count, execution_count=(count + 1) // 2)
        for name, ms in (("success", 6), ("queue", 1), ("compute_infer", 4)):
            duration = getattr(found.inference_stats, name)
            duration.count, duration.ns = count, count * ms * 1_000_000
        for name in ("compute_input", "compute_output"):
            getattr(found.inference_stats, name).count = count
    return response


def test_a_load_is_what_came_between_two_looks() -> None:
    (score, tower) = loads_between((look(tower=10, score=20), look(tower=16, score=30)))
    assert (score.model, score.requests, score.failed, score.executions, score.batch) == ("score", 10, 0, 5, 2.0)
    assert (tower.model, tower.requests, tower.executions) == ("tower", 6, 3)
    assert (tower.queue_ms, tower.input_ms, tower.infer_ms, tower.output_ms, tower.whole_ms) == (1, 0, 4, 0, 6)


def test_stretches_are_added_up_and_may_be_of_several_servers() -> None:
    (load,) = loads_between((look(score=10), look(score=14)), (look(score=0), look(score=2)))
    assert (load.requests, load.executions) == (6, 3)
    assert load.queue_ms == pytest.approx(1)


def test_a_model_without_requests_has_no_times() -> None:
    (load,) = loads_between((look(score=8), look(score=8)))
    assert (load.requests, load.batch, load.queue_ms, load.whole_ms) == (0, None, None, None)
    assert loads_between() == []


class Counting:
    """A Triton that counts after it has answered."""

    def __init__(self, looks: Iterator[pb.ModelStatisticsResponse]) -> None:
        self._looks, self.asked = looks, 0

    async def statistics(self) -> pb.ModelStatisticsResponse:
        self.asked += 1
        return next(self._looks)


def test_a_look_waits_until_all_is_counted() -> None:
    def looks() -> Iterator[pb.ModelStatisticsResponse]:
        yield look(score=5, tower=6)  # the answer is out, the ensemble has not counted it
        yield look(score=5, tower=6)
        yield look(score=5, tower=6)
        while True:
            yield look(score=6, tower=6)

    way = Counting(looks())
    assert asyncio.run(settled(way)) == look(score=6, tower=6)


def test_a_look_does_not_wait_for_what_was_refused_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noduleserve.benchmarks.load.triton_statistics._LOOK_S", 0.001)
    way = Counting(iter([look(score=5, tower=4)] * 100))
    assert asyncio.run(settled(way)) == look(score=5, tower=4)
    assert way.asked < 100
