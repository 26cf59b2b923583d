"""A short soak with kills loses nothing, and its proof sees what is lost, doubled or changed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from serving import command, living, read_rows, write_rows
from typer.testing import CliRunner

from noduleserve.benchmarks.record.files import read_record
from noduleserve.benchmarks.record.markdown import table_of
from noduleserve.benchmarks.soak import SoakOptions, killed, planned_kills
from noduleserve.benchmarks.soak_figures import Kill, Rates, Soak, memory_at, memory_table, pause_after, rates_of
from noduleserve.benchmarks.soak_proof import (
    Check,
    check_keys,
    check_results,
    check_rows,
    check_scores,
    difference,
    rows_of,
    scores_of,
)
from noduleserve.benchmarks.soak_watch import JournalTail, Sample
from noduleserve.benchmarks.soak_worklist import BAD
from noduleserve.cli import app

NODULES, PARKED = 240, 24  # several batches of the journal, so that kills meet a run at work


@pytest.fixture(scope="module")
def soak(tiny_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a soak by the command: client and server are killed once each."""
    out = tmp_path_factory.mktemp("soak") / "out"
    line = ("--nodules", NODULES, "--bad", PARKED / NODULES, "--kills", 1, "--phantoms", 1, "--sample", 8, "--out", out)
    done = command("bench", "soak", tiny_release, *line)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "MISSED" not in done.stdout and done.stdout.count("| yes | yes: met |") == 6
    assert "killing the client at" in done.stderr and "killing the server at" in done.stderr
    return out


@pytest.fixture
def journal(soak: Path, tmp_path: Path) -> Path:
    """A copy of its journal, to be damaged."""
    return Path(shutil.copy(soak / "results.csv.journal", tmp_path / "copy.journal"))


def outcome_lines(journal: Path) -> list[bytes]:
    return [line for line in journal.read_bytes().splitlines(keepends=True) if line.startswith(b'{"kind":"outcome"')]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:  # it ended just now
        return ""


# ---------------------------------------------------------------- the run


def test_what_a_soak_leaves(soak: Path) -> None:
    record = read_record(soak)
    night, *_ = record.tables
    assert dict(zip(night.columns, night.rows[0], strict=True)).items() >= {
        *{"nodules": NODULES, "scored": NODULES - PARKED, "parked": PARKED, "lost": 0}.items(),
        *{"client_kills": 1, "server_kills": 1}.items(),
    }
    assert [table.name for table in record.tables] == ["night", "rates", "kills", "memory", "proof"]
    assert (soak / "record" / "outcomes.png").is_file()
    facts = json.loads((soak / "soak.json").read_text())
    assert (facts["nodules"], facts["scored"], facts["lost"], facts["good"]) == (NODULES, NODULES - PARKED, 0, True)
    assert sorted(kill["what"] for kill in facts["kills"]) == ["client", "server"]
    assert all(0 < kill["outcomes"] < NODULES for kill in facts["kills"])
    assert len(facts["checks"]) == 6 and all(check["good"] for check in facts["checks"])
    samples = read_rows(soak / "samples.csv")
    assert int(samples[-1]["outcomes"]) == NODULES
    for kind in ("client", "tritonserver", "nodule_preprocess", "nodule_similarity"):
        assert facts["peak_mb"][kind] > 10
        assert max(float(sample[f"{kind}_mb"] or 0) for sample in samples) == facts["peak_mb"][kind]
    assert not [process for process in living() if str(soak) in command_line(process.pid)]


def test_every_nodule_of_the_worklist_differs(soak: Path) -> None:
    rows = read_rows(soak / "worklist.csv")
    assert len({row["nodule_id"] for row in rows}) == NODULES
    good = [row for row in rows if not row["planted"]]
    assert len({(row["coordX"], row["coordY"], row["coordZ"]) for row in good}) == len(good) == NODULES - PARKED
    assert set(Counter(row["planted"] for row in rows)) == {"", *BAD}


def test_a_folder_that_holds_something_is_left_alone(soak: Path) -> None:
    before = sorted(soak.iterdir())
    done = CliRunner().invoke(app, ["bench", "soak", "--out", str(soak)])
    assert done.exit_code == 2
    assert sorted(soak.iterdir()) == before


def test_the_help_has_an_example() -> None:
    done = CliRunner().invoke(app, ["bench", "soak", "--help"])
    assert done.exit_code == 0
    assert "bench soak --nodules 20000 --kills 2" in done.stdout


# ---------------------------------------------------------------- the proof


def test_a_lost_outcome_is_seen(soak: Path, journal: Path) -> None:
    worklist = read_rows(soak / "worklist.csv")
    journal.write_bytes(journal.read_bytes().replace(outcome_lines(journal)[20], b""))
    rows = rows_of(journal)
    first, _ = check_rows(rows, worklist, [row["planted"] for row in worklist])
    assert not first.good and "1 lost" in first.found
    assert not check_results(soak / "results.csv", rows, worklist).good


def test_an_outcome_that_stands_twice_is_seen(journal: Path) -> None:
    assert check_keys(journal).good
    with journal.open("ab") as file:
        file.write(outcome_lines(journal)[3])
    assert check_keys(journal).found.endswith("1 twice")
    assert not check_keys(journal).good


def test_another_code_than_the_planted_one_is_seen(soak: Path) -> None:
    worklist, rows = read_rows(soak / "worklist.csv"), rows_of(soak / "results.csv.journal")
    planted = [row["planted"] for row in worklist]
    assert all(check.good for check in check_rows(rows, worklist, planted))
    first, second = planted.index(BAD[0]), planted.index(BAD[1])
    planted[first], planted[second] = planted[second], planted[first]  # the counts stay right
    assert not check_rows(rows, worklist, planted)[1].good


@pytest.mark.parametrize("harm", ["doubled", "missing", "swapped", "other score", "other code"])
def test_results_that_are_not_the_journals_are_seen(soak: Path, tmp_path: Path, harm: str) -> None:
    worklist, rows = read_rows(soak / "worklist.csv"), rows_of(soak / "results.csv.journal")
    table = read_rows(soak / "results.csv")
    assert check_results(write_rows(tmp_path / "same.csv", table), rows, worklist).good
    if harm == "doubled":
        table.append(table[-1])
    elif harm == "missing":
        table.pop()
    elif harm == "swapped":
        table[4], table[5] = table[5], table[4]
    elif harm == "other score":
        scored = next(row for row in table if row["status"] == "scored")
        scored["calibrated_ensemble"] = str(float(scored["calibrated_ensemble"]) + 1e-5)
    else:
        next(row for row in table if row["status"] == "failed")["error_code"] = "BOX_OUTSIDE"
    assert not check_results(write_rows(tmp_path / "harmed.csv", table), rows, worklist).good


def test_another_score_is_seen(soak: Path, journal: Path) -> None:
    sample = [row["nodule_id"] for row in read_rows(soak / "sample.csv")]
    fresh = soak / "sample-results.csv.journal"
    assert check_scores(journal, fresh, sample).good
    assert not check_scores(journal, fresh, [*sample, "not scored"]).good
    score, other = list(scores_of(journal, sample).values())[:2]
    assert difference(score, score) == 0.0
    assert difference(score, other) > 1e-4  # two nodules are told apart
    changed = score.embedding.copy()
    changed[0, 0] += np.float32(1e-3)
    assert difference(score, replace(score, embedding=changed)) == pytest.approx(1e-3, rel=1e-2)
    assert difference(score, replace(score, calibrated=np.full_like(score.calibrated, np.nan))) == float("inf")


# ---------------------------------------------------------------- the figures


def sample(seconds: float, outcomes: int, **mb: float) -> Sample:
    return Sample(seconds, outcomes, outcomes * 100, mb, readers=2)


def test_rates_by_the_minute() -> None:
    # 10 a second for two minutes, 5 for the third in which something is killed, 8 for the fourth and half a minute.
    speeds = [10] * 120 + [5] * 60 + [8] * 90
    outcomes = np.cumsum([1, *speeds])
    samples = [sample(7.0, 0), *(sample(8.0 + second, int(count)) for second, count in enumerate(outcomes))]
    rates = rates_of(samples, disturbed=[150.0])
    assert (rates.median, rates.lowest, rates.lowest_undisturbed) == (9.0, 5.0, 10.0)  # the fourth is after a kill
    assert rates.whole == pytest.approx(sum(speeds) / 270)
    short = rates_of(samples[:20], disturbed=[])
    assert short == Rates(10.0, 10.0, 10.0, None)
    assert rates_of(samples[:2], disturbed=[]) == Rates(0.0, 0.0, 0.0, None)


def test_the_pause_after_a_kill() -> None:
    samples = [sample(1.0, 5), sample(2.0, 7), sample(3.0, 7), sample(4.0, 8)]
    assert pause_after(samples, Kill("server", 1.5, 7)) == 2.5
    assert pause_after(samples, Kill("server", 4.5, 8)) == float("inf")


def test_memory_at_the_quarters() -> None:
    samples = [sample(float(n), n, client=100.0 + n, readers=50.0) for n in range(41)]
    for gone in (10, 11):
        del samples[gone].mb["client"]
    del samples[-1].mb["readers"]
    assert memory_at(samples, "client", 0.0) == 101.0
    assert memory_at(samples, "client", 10.0) == 112.0  # killed just then: of the next one
    assert memory_at(samples, "readers", 40.0) == 50.0
    for number in range(6, 15):
        samples[number].mb.pop("client", None)
    assert memory_at(samples, "client", 10.0) is None
    assert memory_table(samples, 40).rows == (
        ("client", 1, 101.0, None, 120.0, 130.0, 140.0, 140.0),
        ("readers", 2, 50.0, 50.0, 50.0, 50.0, 50.0, 50.0),
    )


def test_what_is_lost_or_not_proved_is_not_good() -> None:
    samples = [sample(1.0, 1, client=1.0), sample(2.0, 9, client=1.0)]
    good = Soak("ns-0", 10, 2, 9, 0, 900, samples, [Kill("client", 1.25, 4)], [Check("a", "b", True)])
    assert good.good and "MISSED" not in shown(good)
    assert "| client | 4 | 1.25 | 0.75 |" in shown(good)
    assert not replace(good, lost=1).good and "| at most 0: MISSED |" in shown(replace(good, lost=1))
    unproved = replace(good, checks=[Check("a", "b", True), Check("c", "d", False)])
    assert not unproved.good and "| c | d | no | yes: MISSED |" in shown(unproved)
    memory, outcomes = good.plots()
    assert [line.y for line in (*memory.lines, *outcomes.lines)] == [(1.0, 1.0), (1.0, 9.0)]


def shown(soak: Soak) -> str:
    return "\n".join(table_of(table) for table in soak.tables())


def test_kills_are_spread_over_the_run() -> None:
    assert killed(SoakOptions()) == []
    options = SoakOptions(nodules=1000, kills=5)
    planned = planned_kills(options, np.random.default_rng(3))
    assert Counter(name for _, name in planned) == {"client": 5, "server": 2}
    assert planned == sorted(planned)
    assert 100 <= planned[0][0] < planned[-1][0] <= 800


def test_the_tail_counts_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    tail = JournalTail(path)
    assert tail.look() == 0
    path.write_bytes(b'{"format":"x"}\n{"kind":"run"}\n{"kind":"outcome","a":1}\n{"kind":"outc')
    assert (tail.look(), tail.size) == (1, path.stat().st_size)
    with path.open("ab") as file:
        file.write(b'ome","a":2}\n{"kind":"row","a":3}\n')
    assert tail.look() == 2
    path.write_bytes(path.read_bytes() + b'{"kind":"outcome","torn')
    assert tail.look() == 2
    path.write_bytes(path.read_bytes()[:-23])  # a run that takes it up cuts it off
    with path.open("ab") as file:
        file.write(b'{"kind":"outcome","a":4}\n')
    assert (tail.look(), tail.size) == (3, path.stat().st_size)
