"""A calibration fitted to outcomes is the most likely one, and what cannot be fitted is refused by line and reason."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import plain
from typer.testing import CliRunner

from noduleserve.cli import app
from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint.calibration import read_calibration
from noduleserve.export.checkpoint.outcomes import Outcomes, read_outcomes

pytest.importorskip("betacal")
optimize = pytest.importorskip("scipy.optimize")
from noduleserve.export.checkpoint.fit_calibration import Fit, fit_folds, inside, write_fits  # noqa: E402

Array = np.ndarray[Any, Any]
TRUTHS = {
    "much too sure": (0.4, 0.5, -0.6),
    "not sure enough": (2.0, 1.6, 0.3),
    "too high": (1.0, 1.0, -2.0),
    "one-sided": (-0.6, 1.5, 0.2),  # the best a is 0
}


def drawn(truth: tuple[float, float, float], count: int = 400, seed: int = 3) -> tuple[Array, Array]:
    """Probabilities, and labels that follow sigmoid(a ln p - b ln(1 - p) + c) of them."""
    random = np.random.default_rng(seed)
    p = random.uniform(0.01, 0.99, count)
    return p, (random.uniform(size=count) < plain.beta_calibrated(p, *truth)).astype(np.int64)


def loss(p: Array, labels: Array) -> float:
    return float(-np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p)))


def most_likely(p: Array, labels: Array, parameters: str) -> float:
    """The least log loss that numbers of this kind reach, a and b not negative, by a general minimiser."""
    abc = {
        "abm": lambda x: (x[0], x[1], x[2]),
        "am": lambda x: (x[0], x[0], x[1]),
        "ab": lambda x: (x[0], x[1], (x[0] - x[1]) * np.log(2)),
    }[parameters]
    count = 3 if parameters == "abm" else 2
    bounds = [(0, None)] * (1 if parameters == "am" else 2) + [(None, None)]
    result = optimize.minimize(
        lambda x: loss(plain.beta_calibrated(p, *abc(x)), labels), np.ones(count), bounds=bounds[:count]
    )
    assert result.success
    return float(result.fun)


def fit_of(p: Array, labels: Array, parameters: Any = "abm") -> Fit:
    (fit,) = fit_folds(Outcomes(p[None], labels), parameters)
    return fit


def refusal(call: Any, *arguments: Any, **options: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        call(*arguments, **options)
    return caught.value


def write_csv(file: Path, header: str, rows: Sequence[Sequence[object]]) -> Path:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header.split(","), *rows])
    return file


# ---------------------------------------------------------------- the fit


@pytest.mark.parametrize("parameters", ["abm", "am", "ab"])
@pytest.mark.parametrize("truth", TRUTHS)
def test_no_other_numbers_are_more_likely(truth: str, parameters: str) -> None:
    p, labels = drawn(TRUTHS[truth])
    if parameters == "ab" and truth in ("one-sided", "too high"):  # 0.5 cannot stay 0.5 there
        error = refusal(fit_of, p, labels, parameters)
        assert error.code == "CALIBRATION_FIT" and "other parameters" in error.mend
        return
    fit = fit_of(p, labels, parameters)
    after = plain.beta_calibrated(p, fit.a, fit.b, fit.c)
    assert loss(after, labels) == pytest.approx(most_likely(p, labels, parameters), abs=1e-3)
    assert fit.log_loss == pytest.approx((loss(p, labels), loss(after, labels)), abs=1e-12)
    assert fit.brier == pytest.approx((np.mean((p - labels) ** 2), np.mean((after - labels) ** 2)), abs=1e-12)
    assert (fit.n, fit.events) == (400, labels.sum())


def test_the_numbers_come_near_the_truth() -> None:
    p, labels = drawn((0.5, 0.7, -1.0), count=20000)
    fit = fit_of(p, labels)
    np.testing.assert_allclose((fit.a, fit.b, fit.c), (0.5, 0.7, -1.0), rtol=0, atol=0.1)
    assert fit.log_loss[1] < fit.log_loss[0] - 0.05


def test_the_two_parameter_kinds_keep_what_they_hold_fixed() -> None:
    p, labels = drawn((1.4, 0.6, 0.4))
    am, ab = fit_of(p, labels, "am"), fit_of(p, labels, "ab")
    assert am.a == am.b and am.c != 0
    assert plain.beta_calibrated(np.array([0.5]), ab.a, ab.b, ab.c) == pytest.approx(0.5, abs=1e-12)
    assert ab.a != pytest.approx(ab.b, rel=0.1)


def test_every_fold_has_its_own_fit() -> None:
    p, labels = drawn(TRUTHS["too high"])
    odds = p / (1 - p)
    sharper = odds**2 / (1 + odds**2)
    folds = fit_folds(Outcomes(np.stack([p, sharper]), labels), "am")
    assert folds[0] == fit_of(p, labels, "am")
    assert folds[1].a == pytest.approx(folds[0].a / 2, rel=1e-2)


def test_probabilities_rounded_to_0_and_1_do_not_decide() -> None:
    np.testing.assert_array_equal(inside(np.array([0, 1e-12, 0.5, 1])), [1e-12, 1e-12, 0.5, 1 - 2.0**-25])
    np.testing.assert_array_equal(inside(np.array([0, 0.5, 1 - 1e-12])), [2.0**-25, 0.5, 1 - 1e-12])
    p, labels = drawn(TRUTHS["too high"])
    without = fit_of(p, labels)
    p, labels = np.append(p, [0, 1]), np.append(labels, [0, 1])
    fit = fit_of(p, labels)
    assert np.isfinite(fit.log_loss).all()
    np.testing.assert_allclose((fit.a, fit.b, fit.c), (without.a, without.b, without.c), rtol=0, atol=0.1)


def test_warnings_stay_on(recwarn: pytest.WarningsRecorder) -> None:
    fit_of(*drawn(TRUTHS["too high"]))
    warnings.warn("heard", UserWarning, stacklevel=1)
    assert [str(w.message) for w in recwarn] == ["heard"]


SPLIT = np.repeat([0, 1], 20)
RISING = np.linspace(0.1, 0.9, 40)


@pytest.mark.parametrize(
    ("p", "labels", "code", "says"),
    [
        (RISING[:19], np.tile([0, 1], 10)[:19], "CALIBRATION_TOO_FEW", "9 nodules with cancer and 10 without"),
        (RISING, np.repeat([0, 1], [36, 4]), "CALIBRATION_TOO_FEW", "4 nodules with cancer and 36 without"),
        (RISING, np.repeat([0, 1], [4, 36]), "CALIBRATION_TOO_FEW", "36 nodules with cancer and 4 without"),
        (RISING, np.zeros(40, int), "CALIBRATION_TOO_FEW", "0 nodules with cancer and 40 without"),
        (RISING, SPLIT, "CALIBRATION_FIT", "no maximum"),
        (np.full(40, 0.3), SPLIT, "CALIBRATION_FIT", "the same"),
        (RISING[::-1], np.roll(SPLIT, 3), "CALIBRATION_FIT", "would not give a higher probability"),
    ],
)
def test_outcomes_that_have_no_calibration(p: Array, labels: Array, code: str, says: str) -> None:
    for parameters in ("abm", "am", "ab"):
        error = refusal(fit_of, p, labels, parameters)
        assert error.code == code and says in error.what and error.mend


def test_the_least_that_is_enough() -> None:
    p, labels = np.linspace(0.1, 0.9, 20), np.zeros(20, int)
    labels[[5, 9, 12, 16, 19]] = 1
    assert fit_of(p, labels).events == 5


def test_the_fold_at_fault_is_named() -> None:
    p, labels = drawn(TRUTHS["too high"])
    assert "fold 1: " in refusal(fit_folds, Outcomes(np.stack([p, 1 - p]), labels)).what


# ---------------------------------------------------------------- reading


def test_one_fold(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", "note,label, probability ", [["x", "1", 0.25], [], ["y", " 0 ", "1e-3"]])
    outcomes = read_outcomes(file)
    np.testing.assert_array_equal(outcomes.probabilities, [[0.25, 1e-3]])
    np.testing.assert_array_equal(outcomes.labels, [1, 0])
    assert (outcomes.failed, outcomes.unmatched_labels) == (0, 0)


RESULTS = "pid,nodule_id,raw_1,raw_0,ensemble,release,status"


def results(tmp_path: Path) -> Path:
    rows = [
        ["P1", "1", 0.1, 0.2, 0.15, "ns-1", "scored"],
        ["P1", "2", "", "", "", "", "failed"],
        ["P2", "1", 0.3, 0.4, 0.35, "ns-1", "scored"],
    ]
    return write_csv(tmp_path / "results.csv", RESULTS, rows)


def test_results_joined_to_labels(tmp_path: Path) -> None:
    rows = [["1", "P2", 1], ["2", "P1", 1], ["1", "P1", 0.0], ["9", "P9", "unread"]]
    outcomes = read_outcomes(results(tmp_path), write_csv(tmp_path / "l.csv", "nodule_id,pid,label", rows))
    np.testing.assert_array_equal(outcomes.probabilities, [[0.2, 0.4], [0.1, 0.3]])
    np.testing.assert_array_equal(outcomes.labels, [0, 1])
    assert (outcomes.failed, outcomes.unmatched_labels) == (1, 1)


IDS, P = "pid,nodule_id,label", "probability,label"
TABLES: list[tuple[str, str, str]] = [
    ("", "OUTCOMES_COLUMNS", "is empty"),
    ("label,score\n1,0.5\n", "OUTCOMES_COLUMNS", "neither probability nor raw_0"),
    ("probability\n0.5\n", "OUTCOMES_COLUMNS", "no column label"),
    ("label,label,probability\n1,1,0.5\n", "OUTCOMES_COLUMNS", "column label more than once"),
    ("probability,raw_0,label\n0.5,0.5,1\n", "OUTCOMES_COLUMNS", "both probability and raw_0"),
    ("raw_0,raw_2,label\n0.5,0.5,1\n", "OUTCOMES_COLUMNS", "has raw_0, raw_2"),
    ("raw_1,label\n0.5,1\n", "OUTCOMES_COLUMNS", "has raw_1"),
    (f"{P}\n0.5,1\n0.5\n", "OUTCOMES_UNREADABLE", "line 3: the row has 1 cells, the header 2"),
    (f'{P}\n0.5,"1\n', "OUTCOMES_UNREADABLE", "cannot be read"),
    (f"{P},status\n0.5,1,done\n", "OUTCOMES_COLUMNS", "line 2: the status is 'done'"),
    (f"{P},release\n0.5,1,ns-1\n0.5,1,ns-1\n0.5,1,ns-2\n", "OUTCOMES_RELEASES", "ns-2 (line 4)"),
    ("pid,nodule_id,probability,label\nP,1,0.5,1\nP,2,0.5,1\nP,1,0.5,1\n", "OUTCOMES_IDS", "line 4: pid and nodule_id"),
    ("pid,nodule_id,probability,label\nP,1,0.5,1\n,2,0.5,1\n", "OUTCOMES_IDS", "line 3: pid or nodule_id is empty"),
    *((f"{P}\n0.5,1\n\n0.5,{cell}\n", "OUTCOMES_LABEL", f"line 4: the label is {cell!r}") for cell in
      ("2", "", "yes", "nan", "-1", "0.5", "True")),
    *((f"{P}\n0.5,1\n\n{cell},1\n", "OUTCOMES_PROBABILITY", f"line 4: probability is {cell!r}") for cell in
      ("1.01", "-0.1", "nan", "", "inf", "half", "0_1", "1e400")),
    ("raw_0,raw_1,label\n0.5,0.5,1\n0.5,,1\n", "OUTCOMES_PROBABILITY", "line 3: raw_1 is ''"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "says"), TABLES)
def test_tables_that_are_wrong(tmp_path: Path, text: str, code: str, says: str) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text)
    error = refusal(read_outcomes, file)
    assert error.code == code and error.what.startswith("mine.csv") and says in error.what


@pytest.mark.parametrize(
    ("header", "rows", "code", "says"),
    [
        (IDS, [["P1", "1", 0]], "OUTCOMES_IDS", "no label for 1 of the scored nodules of results.csv, the first at"),
        (IDS, [["P1", "1", 0], ["P2", "1", 0], ["P1", "1", 1]], "OUTCOMES_IDS", "line 4: pid and nodule_id"),
        (IDS, [["P1", "1", 0], ["P2", "1", 3]], "OUTCOMES_LABEL", "labels.csv, line 3: the label is '3'"),
        ("pid,label", [["P1", 0]], "OUTCOMES_COLUMNS", "no column nodule_id"),
        ("pid,nodule_id,cancer", [["P1", "1", 0]], "OUTCOMES_COLUMNS", "no column label"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit(tmp_path: Path, header: str, rows: list[list[object]], code: str, says: str) -> None:
    error = refusal(read_outcomes, results(tmp_path), write_csv(tmp_path / "labels.csv", header, rows))
    assert error.code == code and says in error.what


def test_labels_twice_over_or_without_ids(tmp_path: Path) -> None:
    labels = write_csv(tmp_path / "labels.csv", IDS, [["P1", "1", 0]])
    with_label = write_csv(tmp_path / "a.csv", "pid,nodule_id,probability,label", [["P1", "1", 0.5, 1]])
    assert "labels.csv is given as well" in refusal(read_outcomes, with_label, labels).what
    without_ids = write_csv(tmp_path / "a.csv", "pid,probability", [["P1", 0.5]])
    assert "no column nodule_id" in refusal(read_outcomes, without_ids, labels).what


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "nowhere.csv", tmp_path, tmp_path / "bytes.csv"):
        error = refusal(read_outcomes, path)
        assert error.code == "OUTCOMES_UNREADABLE" and path.name in error.what


# ---------------------------------------------------------------- writing

FIT = Fit(0.6, 0.9, -0.7, "abm", 300, 60, (0.5, 0.4), (0.2, 0.1))


def checkpoint(folder: Path, folds: int) -> Path:
    for fold in range(folds):
        (folder / f"fold_{fold}").mkdir(parents=True)
    (folder / "args.txt").write_text(f"Namespace(n_splits={folds}, tuning='lora', r=2, alpha=1)")
    return folder


def test_an_export_reads_what_is_written(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint", 2)
    written = write_fits([FIT, FIT], folder)
    assert written == [folder / f"fold_{k}" / "calibration.json" for k in range(2)]
    assert read_calibration(folder, 2) == [{"a": 0.6, "b": 0.9, "c": -0.7}] * 2
    content = json.loads(written[1].read_text())
    assert content["method"].startswith("maximum likelihood, betacal 1.")
    del content["method"]
    assert content == {
        "kind": "beta", "a": 0.6, "b": 0.9, "c": -0.7, "parameters": "abm", "n": 300, "events": 60,
        "log_loss": {"before": 0.5, "after": 0.4}, "brier": {"before": 0.2, "after": 0.1},
    }  # fmt: skip


def test_one_fold_goes_to_a_file_or_a_folder_of_one(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint", 1)
    assert write_fits([FIT], tmp_path / "mine.json") == [tmp_path / "mine.json"]
    (written,) = write_fits([FIT], folder)
    assert written.read_bytes() == (tmp_path / "mine.json").read_bytes()


def test_what_is_there_is_replaced_only_where_asked(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint", 2)
    old = folder / "fold_1" / "calibration.json"
    old.write_text("old")
    error = refusal(write_fits, [FIT, FIT], folder)
    assert error.code == "CALIBRATION_EXISTS" and str(old) in error.what and "--overwrite" in error.mend
    assert old.read_text() == "old" and not list((folder / "fold_0").iterdir())
    write_fits([FIT, FIT], folder, overwrite=True)
    assert json.loads(old.read_text())["a"] == 0.6
    assert [p.name for p in (folder / "fold_0").iterdir()] == ["calibration.json"]


def test_places_that_are_no_checkpoint(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint", 2)
    error = refusal(write_fits, [FIT] * 3, folder)
    assert error.code == "CALIBRATION_FOLDS" and "has 2 folds, but the scores are of 3" in error.what
    assert refusal(write_fits, [FIT], folder).code == "CALIBRATION_FOLDS"
    (folder / "fold_1").rmdir()
    assert "has no fold_1" in refusal(write_fits, [FIT] * 2, folder).what
    assert refusal(write_fits, [FIT], tmp_path).code == "CHECKPOINT_NOT_FOUND"
    for out in ("may", "nowhere/calibration.json"):
        assert refusal(write_fits, [FIT], tmp_path / out).code == "CALIBRATION_OUT"
    assert refusal(write_fits, [FIT] * 2, tmp_path / "mine.json").code == "CALIBRATION_OUT"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["args.txt", "checkpoint", "fold_0"]


# ---------------------------------------------------------------- the command


def test_the_command_from_results_to_a_checkpoint(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint", 2)
    p, labels = drawn(TRUTHS["too high"], count=100)
    ids = [["P", str(number)] for number in range(len(p))]
    scored = [[*i, x, np.sqrt(x), "scored"] for i, x in zip(ids, p, strict=True)]
    rows = [*scored[:50], ["P", "lost", "", "", "failed"], *scored[50:]]
    results = write_csv(tmp_path / "results.csv", "pid,nodule_id,raw_0,raw_1,status", rows)
    outcomes = [["P", "not scored", 1], *[[*i, label] for i, label in zip(ids, labels, strict=True)][::-1]]
    line = ["fit-calibration", str(results), "--out", str(folder), "--parameters", "am"]
    line += ["--labels", str(write_csv(tmp_path / "outcomes.csv", IDS, outcomes))]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    assert "must not be those that the model was trained on" in done.stderr
    assert "Failed rows of results.csv, left out: 1." in done.stderr
    assert "Labels of outcomes.csv that are of no row of results.csv: 1." in done.stderr
    expected = fit_folds(Outcomes(np.stack([p, np.sqrt(p)]), labels), "am")
    assert read_calibration(folder, 2) == [{"a": fit.a, "b": fit.b, "c": fit.c} for fit in expected]
    for fold, (printed, fit) in enumerate(zip(done.stdout.splitlines(), expected, strict=True)):
        assert printed.startswith(f"{folder / f'fold_{fold}' / 'calibration.json'}: a {fit.a:.4g}, ")
        assert f"100 nodules, {labels.sum()} with cancer; log loss {fit.log_loss[0]:.4f} -> " in printed
    again = CliRunner().invoke(app, line)
    assert isinstance(again.exception, CheckpointError) and again.exception.code == "CALIBRATION_EXISTS"
    assert CliRunner().invoke(app, [*line, "--overwrite"]).exit_code == 0
    assert (
        "P" not in json.loads((folder / "fold_0" / "calibration.json").read_text()).values()
    )  # no ids leave the tables
