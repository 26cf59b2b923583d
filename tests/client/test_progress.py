"""What is seen of a run: numbers that are right, for a person and for a machine, without data of any patient."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noduleserve.ct.doubt import InputWarning
from noduleserve.progress import Tally, shown
from noduleserve.results.outcome import Outcome, Score
from noduleserve.worklist.table import Nodule

SECRET = "Doe^Jane-4711"


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def outcome(**more: Any) -> Outcome:
    nodule = Nodule(0, {"pid": SECRET}, SECRET, SECRET, Path(f"/{SECRET}"), (0.0, 0.0, 0.0))
    return Outcome(nodule, series_uid=SECRET, **more)


def score() -> Score:
    one = np.ones(1, np.float32)
    return Score(1.0, one, one, one, one, one, "ns-x")


def tally() -> tuple[Tally, Clock]:
    """Of ten nodules: one resumed, two scored (one with a warning), two that failed; 8 s in."""
    clock = Clock()
    made = Tally(10, clock)
    made.add(outcome(score=score(), resumed=True))
    for more in (
        {"score": score()},
        {"score": score(), "warnings": (InputWarning("SPACING_WIDE", "It is.", "Look."),)},
        {"error_code": "SERVER_LOST", "error": SECRET},
        {"error_code": "SERVER_LOST", "error": SECRET},
    ):
        clock.now += 2
        made.add(outcome(**more))
    made.status.series_done, made.status.in_flight, made.status.retries = 3, 4, 5
    made.status.servers, made.status.servers_up = 2, 1
    return made, clock


def test_the_numbers() -> None:
    made, _ = tally()
    assert made.facts() == {
        "seconds": 8.0,
        "nodules": 10,
        "done": 5,
        "scored": 3,
        "warned": 1,
        "resumed": 1,
        "failed": {"SERVER_LOST": 2},
        "series_done": 3,
        "in_flight": 4,
        "retries": 5,
        "servers": 2,
        "servers_up": 1,
        "rate": 0.5,  # what an earlier run did is not of this run's speed
        "seconds_left": 10.0,
    }
    assert made.line() == (
        "5 of 10 nodules, 3 series, 0.50 a second, 10 s left, 1 of 2 servers there, 2 x SERVER_LOST, 4 in flight, "
        "1 warned, 1 resumed, 5 tried again"
    )
    assert SECRET not in made.line() + made.remarks() + json.dumps(made.facts())


def test_nothing_is_said_of_a_time_that_nobody_knows() -> None:
    made = Tally(10, Clock())
    assert made.facts()["seconds_left"] is None
    assert "left" not in made.line() + made.remarks()


def test_the_time_that_is_left_goes_by_the_last_hundreds() -> None:
    clock = Clock()
    made = Tally(2000, clock)
    for pause in [100.0] * 500 + [1.0] * 500:
        clock.now += pause
        made.add(outcome(score=score()))
    assert made.facts()["seconds_left"] == pytest.approx(1000, rel=0.01)
    assert "16 min" in made.line()


def test_lines_for_a_machine(capsys: pytest.CaptureFixture[str]) -> None:
    made, _ = tally()
    with shown(made, "json", every=0.02):
        time.sleep(0.1)
    with pytest.raises(ZeroDivisionError), shown(made, "json", every=60):
        1 / 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    events = [line["event"] for line in lines]
    assert (events[0], events[1], *events[-3:]) == ("start", "progress", "end", "start", "broken off")
    assert all(line["done"] == 5 and line["time"].endswith("+00:00") for line in lines)


@pytest.mark.parametrize("log", ["lines", "auto"])
def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], log: Any) -> None:
    made, _ = tally()
    with shown(made, log, every=0.02):
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d 5 of 10 nodules, .*", line) for line in lines)
    with shown(made, log, every=60):
        pass
    assert capsys.readouterr().err == ""  # it was over before the first was due


def test_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    made, _ = tally()
    with shown(made, "bar"):
        time.sleep(0.3)
    text = capsys.readouterr().err
    assert "5/10" in text and "SERVER_LOST" in text and SECRET not in text
