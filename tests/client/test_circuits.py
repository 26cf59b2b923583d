"""Circuits and releases, on servers without a network: who is asked, who is left alone, and when a run breaks off."""

from __future__ import annotations

import asyncio
import time

import pytest
from scripted_transport import RELEASE, World, engine, nodule, on, scored
from tritonclient.grpc import service_pb2 as pb

from noduleserve.client.engine import Engine
from noduleserve.errors import ServerError
from noduleserve.results.outcome import Outcome


def test_while_no_server_is_there_nothing_is_sent_and_no_try_is_used_up() -> None:
    """It is gone for much longer than all tries of a nodule together would take."""
    world = World()

    async def act(entered: Engine) -> list[Outcome]:
        outcomes = entered.outcomes([nodule(n) for n in range(50)])
        first = [await anext(outcomes) for _ in range(10)]
        world.down.add("a:1")
        asyncio.get_running_loop().call_later(0.5, world.down.discard, "a:1")
        asked = len(world.asked)
        rest = [outcome async for outcome in outcomes]
        assert len(world.asked) - asked <= 40 + 8 + 8  # those in flight were asked twice, no others
        return first + rest

    outcomes = on(engine(world, retries=1), act)
    assert sorted(o.nodule.number for o in outcomes) == list(range(50))
    assert {o.status for o in outcomes} == {"scored"}
    assert 3 < world.looks["a:1"] < 100  # one prober, with pauses
    assert world.probes["a:1"] == 2  # when connecting, and when it was back


def test_after_the_wait_the_run_breaks_off_and_nodules_stay_without_outcome() -> None:
    world, came = World(), list[Outcome]()

    async def act(entered: Engine) -> None:
        async for outcome in entered.outcomes([nodule(n) for n in range(50)]):
            came.append(outcome)
            if len(came) == 10:
                world.down.add("a:1")

    began = time.monotonic()
    with pytest.raises(ServerError, match="SERVER_GONE"):
        on(engine(world, server_wait=0.3), act)
    assert time.monotonic() - began > 0.3
    assert 10 <= len(came) < 50
    assert {outcome.status for outcome in came} == {"scored"}
    assert world.open == 0


def test_one_of_two_servers_dies_and_the_other_takes_its_nodules() -> None:
    world = World()

    async def act(address: str, _request: pb.ModelInferRequest) -> None:
        await asyncio.sleep(0.02)  # much longer than a box takes to read
        if len(world.asked) > 30:
            world.down.add("b:1")

    world.act = act
    made = engine(world, "a:1, b:1", in_flight=3)
    outcomes = scored(made, [nodule(n) for n in range(100)])
    assert len(outcomes) == 100
    assert {o.status for o in outcomes} == {"scored"}
    assert (made.status.servers, made.status.servers_up) == (2, 1)
    assert set(world.most_in_flight.values()) == {3}
    assert 10 < world.asked.count("b:1") < 25  # of the first 30 the half, and what was under way
    assert set(world.asked[:2]) == {"a:1", "b:1"}


def test_a_lost_server_is_used_again_when_it_is_back() -> None:
    world = World(down={"b:1"})

    async def act(_address: str, _request: pb.ModelInferRequest) -> None:
        await asyncio.sleep(0.001)
        if len(world.asked) > 20:
            world.down.clear()

    world.act = act
    outcomes = scored(engine(world, "a:1,b:1"), [nodule(n) for n in range(400)])
    assert {o.status for o in outcomes} == {"scored"}
    assert "b:1" not in world.asked[:20]
    assert world.asked.count("b:1") > 20


def test_a_server_that_is_late_again_and_again_is_left_alone_until_it_scores_a_test_nodule() -> None:
    world = World()

    async def act(entered: Engine) -> tuple[int, set[int]]:
        world.slow.add("b:1")
        seen, asked = set(), 0
        async for outcome in entered.outcomes([nodule(n) for n in range(3000)]):
            assert outcome.status == "scored"
            seen.add(entered.status.servers_up)
            if not asked and entered.status.servers_up == 1 and len(world.asked) > 500:
                assert world.probes["b:1"] == 1  # when connecting
                asked = world.asked.count("b:1")
                world.slow.clear()
        return asked, seen

    asked, seen = on(engine(world, "a:1,b:1", deadline=0.02, in_flight=4), act)
    assert seen == {1, 2}
    assert world.probes["b:1"] == 2
    assert world.asked.count("b:1") > asked == 0  # what was asked while it was slow is not counted


def test_no_server_there_no_run() -> None:
    world = World(down={"a:1", "b:1"})
    with pytest.raises(ServerError, match=r"SERVER_UNREACHABLE.*a:1"):
        scored(engine(world, "a:1,b:1"), [nodule(0)])
    assert world.open == 0


def test_no_name_of_a_server() -> None:
    with pytest.raises(ServerError, match="SERVER_UNREACHABLE"):
        scored(engine(World(), " , "), [nodule(0)])


def test_a_name_stands_for_all_its_machines() -> None:
    world = World()
    made = engine(world, "dns:///127.0.0.1:7001")
    assert len(scored(made, [nodule(n) for n in range(3)])) == 3
    assert set(world.asked) == {"127.0.0.1:7001"}
    with pytest.raises(ServerError, match="SERVER_UNREACHABLE"):
        scored(engine(world, "dns:///no-such-host.invalid:7001"), [])


# ---------------------------------------------------------------- releases


def test_servers_of_two_releases_are_refused() -> None:
    world = World(releases={"b:1": "ns-other"})
    with pytest.raises(ServerError, match=f"SERVERS_DIFFER.*ns-other, {RELEASE}"):
        scored(engine(world, "a:1,b:1"), [nodule(0)])
    assert world.asked == []
    assert world.open == 0


def test_the_release_is_known_from_the_start() -> None:
    async def act(entered: Engine) -> str:
        return entered.info.release

    assert on(engine(World()), act) == RELEASE


def test_an_answer_of_another_release_breaks_the_run_off() -> None:
    world, came = World(), list[Outcome]()

    async def act(entered: Engine) -> None:
        async for outcome in entered.outcomes([nodule(n) for n in range(50)]):
            came.append(outcome)
            world.releases["a:1"] = "ns-other"

    with pytest.raises(ServerError, match=f"RELEASE_CHANGED.*ns-other.*{RELEASE}"):
        on(engine(world), act)
    assert {o.score.release if o.score else o.error for o in came} == {RELEASE}


def test_a_server_that_comes_back_with_another_release_breaks_the_run_off() -> None:
    world = World()

    async def act(entered: Engine) -> None:
        async for _ in entered.outcomes([nodule(n) for n in range(50)]):
            world.down.add("a:1")
            world.releases["a:1"] = "ns-other"
            asyncio.get_running_loop().call_later(0.05, world.down.discard, "a:1")

    with pytest.raises(ServerError, match="RELEASE_CHANGED"):
        on(engine(world), act)
