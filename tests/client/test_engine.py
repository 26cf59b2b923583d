"""The engine's decisions, counted on servers without a network: retries, budgets, ids, earlier runs, endings."""

from __future__ import annotations

import asyncio
import itertools
import resource
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from scripted_reader import AirReader, LargeBoxReader
from scripted_transport import World, center_of, engine, lost, nodule, on, scored
from tenacity import RetryCallState
from tritonclient.grpc import service_pb2 as pb

from noduleserve.client.budget import ByteBudget
from noduleserve.client.engine import Engine
from noduleserve.client.options import EngineOptions
from noduleserve.client.retry import TRANSIENT, Backoff, retrying
from noduleserve.client.status import EngineStatus
from noduleserve.errors import NoduleserveError, RequestRefused, ServerError
from noduleserve.results.outcome import Outcome
from noduleserve.worklist.table import Nodule


def error(code: str) -> NoduleserveError:
    return (ServerError if code != "SERVER_STOPPING" else RequestRefused)(code, "Not now.")


# ---------------------------------------------------------------- retries


@pytest.mark.parametrize("code", sorted(TRANSIENT))
def test_a_transient_failure_is_tried_again_as_often_as_allowed(code: str) -> None:
    world, retries = World(), 3

    async def act(_address: str, request: pb.ModelInferRequest) -> None:
        x = center_of(request)[0]
        if x == 1 or (x == 2 and world.tries[x] < retries):
            world.tries[x] += 1
            raise error(code)

    world.act = act
    made = engine(world, retries=retries)
    found = {o.nodule.number: o.error_code for o in scored(made, [nodule(n) for n in range(4)])}
    assert found == {0: "", 1: code, 2: "", 3: ""}
    assert len(world.asked) == 2 + 2 * (retries + 1)
    assert made.status.retries == 2 * retries
    assert len(set(world.ids)) == len(world.ids)  # a late answer to an earlier try finds nobody


@pytest.mark.parametrize("failure", [RequestRefused("SERVER_REFUSED", "No."), RequestRefused("CENTER_OUTSIDE", "No.")])
def test_a_permanent_failure_is_tried_once(failure: NoduleserveError) -> None:
    async def act(_address: str, _request: pb.ModelInferRequest) -> None:
        raise failure

    world = World(act=act)
    (outcome,) = scored(engine(world), [nodule(1)])
    assert outcome.error_code == failure.code
    assert world.asked == ["a:1"]


def test_what_nobody_foresaw_is_its_nodules_error_and_is_not_quoted() -> None:
    async def act(_address: str, request: pb.ModelInferRequest) -> None:
        if center_of(request)[0] == 1:
            raise KeyError("Doe^Jane")

    found = {o.nodule.number: o for o in scored(engine(World(act=act)), [nodule(n) for n in range(3)])}
    assert [found[n].error_code for n in range(3)] == ["", "CLIENT_ERROR", ""]
    assert "KeyError" in found[1].error and "Jane" not in found[1].error


def test_pauses_double_up_to_the_longest_with_a_little_more_by_chance() -> None:
    pauses: list[float] = []

    async def fails() -> None:
        raise lost()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    backoff = Backoff(first=1.0, longest=8.0, jitter=0.5)
    with pytest.raises(ServerError, match="SERVER_LOST"):
        asyncio.run(retrying(7, backoff, sleep=sleep)(fails))
    assert len(pauses) == 7
    for pause, least in zip(pauses, [1, 2, 4, 8, 8, 8, 8], strict=True):
        assert least <= pause <= least + 0.5
    assert pauses[:4] == sorted(pauses[:4])
    state = RetryCallState(retrying(1, backoff), None, (), {})
    assert len({backoff.wait(state) for _ in range(10)}) > 1


# ---------------------------------------------------------------- order, backpressure, memory


def test_outcomes_come_as_the_answers_do() -> None:
    async def act(_address: str, request: pb.ModelInferRequest) -> None:
        await asyncio.sleep(0.3 if center_of(request)[0] == 0 else 0.001)

    outcomes = scored(engine(World(act=act)), [nodule(n) for n in range(20)])
    assert outcomes[-1].nodule.number == 0
    assert all(o.score and o.score.malignancy == pytest.approx(o.nodule.number / 100) for o in outcomes)


def test_the_budget_of_bytes_is_never_exceeded() -> None:
    """Boxes of 1 MiB each, 3 of them allowed, where 8 might be in flight and more be read ahead."""
    highest, world, box = 0, World(), 80**3 * 2
    made = engine(world, reader=LargeBoxReader, read_ahead=3 * box + 17)

    async def act(_address: str, _request: pb.ModelInferRequest) -> None:
        nonlocal highest
        highest = max(highest, made.status.reserved)
        await asyncio.sleep(0.002)

    world.act = act
    assert len(scored(made, [nodule(n, f"s{n % 5}") for n in range(60)])) == 60
    assert highest == 3 * box == world.most_in_flight["a:1"] * box
    assert made.status.reserved == 0


def test_a_box_larger_than_the_budget_goes_alone() -> None:
    made = engine(World(), reader=LargeBoxReader, read_ahead=1000)
    assert {o.status for o in scored(made, [nodule(n) for n in range(5)])} == {"scored"}


def test_bytes_are_handed_out_in_turn_and_come_back_from_who_gives_up() -> None:
    async def run() -> list[str]:
        status, got = EngineStatus(), list[str]()
        budget = ByteBudget(10, status)

        async def take(name: str, count: int) -> None:
            await budget.acquire(count)
            got.append(name)

        await take("first", 6)
        large = asyncio.create_task(take("large", 8))
        small = asyncio.create_task(take("small", 2))
        await asyncio.sleep(0)
        assert got == ["first"]  # small would fit, but large was there before
        large.cancel()
        await asyncio.gather(large, small, return_exceptions=True)
        assert status.reserved == 8
        budget.release(6)
        budget.release(2)
        assert status.reserved == 0
        return got

    assert asyncio.run(run()) == ["first", "small"]


def test_who_takes_no_outcomes_stops_the_reading() -> None:
    """Of an endless worklist no more is read than has room between reader and taker."""
    taken = itertools.count()

    def endless() -> Iterator[Nodule]:
        return (nodule(next(taken)) for _ in itertools.count())

    async def act(entered: Engine) -> int:
        outcomes = entered.outcomes(endless())
        for _ in range(5):
            await anext(outcomes)
        await asyncio.sleep(0.2)
        await outcomes.aclose()
        return next(taken)

    assert on(engine(World(), in_flight=4), act) < 5 + 4 * 4


def test_twenty_thousand_nodules_in_flat_memory() -> None:
    nodules = [nodule(n, f"s{n // 10}") for n in range(20_000)]
    scored(engine(World()), nodules[:500])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    world, made, count = World(), None, 0
    made = engine(world, in_flight=16)

    async def act(entered: Engine) -> int:
        nonlocal count
        async for outcome in entered.outcomes(nodules):
            count += outcome.score is not None
        return count

    assert on(made, act) == 20_000
    assert made.status.series_done == 2_000
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 40  # MiB


# ---------------------------------------------------------------- earlier runs


def test_what_an_earlier_run_did_is_handed_on_and_not_done_again() -> None:
    world, asked = World(), list[tuple[int, str]]()
    earlier = {n: Outcome(nodule(n), error_code="CENTER_OUTSIDE", error="It is outside.") for n in (1, 3, 4)}

    def done(one: Nodule, series_uid: str) -> Outcome | None:
        asked.append((one.number, series_uid))
        return earlier.get(one.number)

    nodules = [*map(nodule, range(4)), nodule(4, problem="coordX is 'x'."), replace(nodule(5), problem="No.")]
    found = {o.nodule.number: o for o in scored(engine(world), nodules, done=done)}
    assert [found[n].resumed for n in range(6)] == [False, True, False, True, True, False]
    assert found[1].nodule is nodules[1]
    assert found[5].error_code == "WORKLIST_ROW"
    assert asked == [(4, ""), (5, ""), *((n, "1.2.a") for n in range(4))]
    assert len(world.asked) == 2
    assert found[0].series_uid == found[1].series_uid == "1.2.a"


def test_a_series_that_the_worklist_names_is_not_even_opened() -> None:
    class Closed(AirReader):
        def plan(self, *_: Any) -> Any:
            raise AssertionError("opened")

    nodules = [nodule(n, series_uid="1.2.3") for n in range(3)]
    outcomes = scored(engine(World(), reader=Closed), nodules, done=lambda one, _: Outcome(one, error_code="X"))
    assert [o.resumed for o in outcomes] == [True] * 3


# ---------------------------------------------------------------- endings


def threads_of_readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("noduleserve-reader")]


def test_whoever_is_cancelled_leaves_nothing_behind() -> None:
    async def act(_address: str, _request: pb.ModelInferRequest) -> None:
        await asyncio.sleep(60)

    world = World(act=act)

    async def run() -> None:
        made = engine(world, in_flight=3)

        async def score() -> None:
            async with made:
                async for _ in made.outcomes([nodule(n) for n in range(100)]):
                    pass

        scoring = asyncio.create_task(score())
        while len(world.asked) < 3:
            await asyncio.sleep(0.01)
        scoring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scoring
        assert len(asyncio.all_tasks()) == 1
        assert (made.status.in_flight, made.status.reserved) == (0, 0)

    asyncio.run(run())
    assert threads_of_readers() == []
    assert world.open == 0


def test_a_reader_of_a_bug_ends_the_run_with_it() -> None:
    class Broken(AirReader):
        def cut(self, *_: Any) -> Any:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        scored(engine(World(), reader=Broken), [nodule(n) for n in range(30)])
    assert threads_of_readers() == []


def test_two_worklists_side_by_side_share_what_may_be_in_flight() -> None:
    world = World()

    async def act(_address: str, _request: pb.ModelInferRequest) -> None:
        await asyncio.sleep(0.001)

    world.act = act

    async def both(entered: Engine) -> list[list[Outcome]]:
        async def one(start: int) -> list[Outcome]:
            return [o async for o in entered.outcomes([nodule(n) for n in range(start, start + 30)])]

        return await asyncio.gather(one(0), one(50))

    first, second = on(engine(world, in_flight=2), both)
    assert sorted(o.nodule.number for o in first) == list(range(30))
    assert sorted(o.nodule.number for o in second) == list(range(50, 80))
    assert world.most_in_flight["a:1"] == 2


@pytest.mark.parametrize(
    "wrong",
    [{"transport": "pigeon"}, {"priority": "high"}, {"in_flight": 0}, {"retries": -1}, {"deadline": float("nan")}],
)
def test_options_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        EngineOptions(("a:1",), **wrong)
