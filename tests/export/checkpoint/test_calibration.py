"""Beta calibrations become plain numbers that calibrate as betacal does; an export opens no pickle."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from reference import plain

from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint import calibration
from noduleserve.export.checkpoint.calibration import convert_calibration, folds_of, read_calibration
from noduleserve.export.checkpoint.model_json import ModelFile

Array = np.ndarray[Any, Any]
GOOD = {"kind": "beta", "a": 0.6, "b": 0.9, "c": -0.7}

betacal = pytest.importorskip("betacal")
joblib = pytest.importorskip("joblib")
from noduleserve.export.checkpoint.unpickle_calibration import numbers_of  # noqa: E402  it imports joblib


def write(folder: Path, fold: int, content: Any) -> Path:
    file = folder / f"fold_{fold}" / "calibration.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def dump(folder: Path, fold: int, content: Any) -> Path:
    file = folder / f"fold_{fold}" / f"cal_{fold}.pkl"
    file.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(content, file)
    return file


def fitted(a: float, b: float, c: float, parameters: str = "abm", *, count: int = 3000) -> Any:
    """A calibration fitted on scores whose outcomes follow sigmoid(a ln p - b ln(1 - p) + c)."""
    random = np.random.default_rng([1, count])
    p = random.uniform(0.02, 0.98, count)
    outcome = random.uniform(size=count) < 1 / (1 + np.exp(-(a * np.log(p) - b * np.log(1 - p) + c)))
    return betacal.BetaCalibration(parameters=parameters).fit(p.reshape(-1, 1), outcome.astype(int))


def refusal(call: Any, *arguments: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        call(*arguments)
    return caught.value


# ---------------------------------------------------------------- numbers that are read


def test_numbers_of_every_fold(tmp_path: Path) -> None:
    for fold in range(3):
        write(tmp_path, fold, GOOD | {"c": float(fold)})
    assert read_calibration(tmp_path, 3) == [{"a": 0.6, "b": 0.9, "c": float(fold)} for fold in range(3)]


def test_further_keys_are_no_matter(tmp_path: Path) -> None:
    write(tmp_path, 0, GOOD | {"n": 300, "parameters": "abm", "brier": {"before": 0.2, "after": 0.1}})
    assert read_calibration(tmp_path, 1) == [{"a": 0.6, "b": 0.9, "c": -0.7}]


def test_no_fold_has_any(tmp_path: Path) -> None:
    assert read_calibration(tmp_path, 3) is None


def test_some_folds_have_none(tmp_path: Path) -> None:
    for fold in (0, 2):
        write(tmp_path, fold, GOOD)
    for fold in (1, 3):  # a pickle does not fill the gap
        dump(tmp_path, fold, GOOD)
    error = refusal(read_calibration, tmp_path, 4)
    assert error.code == "CALIBRATION_INCOMPLETE" and "fold_1, fold_3" in error.what


@pytest.mark.parametrize(
    "content",
    [
        "", "null", "[0.6, 0.9, -0.7]", '"abc"', "{", "3",
        {"a": 0.6, "b": 0.9, "c": -0.7},
        GOOD | {"kind": "isotonic"},
        {"kind": "beta", "a": 0.6, "b": 0.9},
        GOOD | {"a": None},
        GOOD | {"b": "much"},
        GOOD | {"c": [1]},
        GOOD | {"a": float("nan")},
        GOOD | {"c": float("inf")},
        '{"kind": "beta", "a": 1' + "0" * 400 + ', "b": 1, "c": 0}',
        GOOD | {"a": -0.1},
        GOOD | {"b": -1e-9},
        GOOD | {"a": 0, "b": 0},
    ],
)  # fmt: skip
def test_numbers_that_are_no_calibration(tmp_path: Path, content: Any) -> None:
    write(tmp_path, 0, GOOD)
    write(tmp_path, 1, content)
    error = refusal(read_calibration, tmp_path, 2)
    assert error.code == "CALIBRATION_INVALID" and "fold_1/calibration.json" in error.what


@pytest.mark.parametrize(("a", "b"), [(0, 1.2), (1.2, 0)])
def test_a_coefficient_may_be_zero(tmp_path: Path, a: float, b: float) -> None:
    write(tmp_path, 0, GOOD | {"a": a, "b": b})
    assert read_calibration(tmp_path, 1) == [{"a": a, "b": b, "c": -0.7}]


# ---------------------------------------------------------------- the number of folds


def test_the_number_of_folds_is_told_without_weights(tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "args.txt").write_text("Namespace(n_splits=7, tuning='lora', r=2, alpha=1)")
    assert folds_of(tmp_path / "published") == 7
    (tmp_path / "model.json").write_text(ModelFile(tuning="lora", folds=3).text())
    assert folds_of(tmp_path) == 3


def test_a_folder_that_does_not_tell_it(tmp_path: Path) -> None:
    assert refusal(folds_of, tmp_path).code == "CHECKPOINT_NOT_FOUND"
    for content in ("", "[]", "{}"):
        (tmp_path / "model.json").write_text(content)
        assert refusal(folds_of, tmp_path).code == "MODEL_FILE", content


# ---------------------------------------------------------------- pickles


class Trap:
    """Opening its pickle makes a folder, and prints what looks like a calibration."""

    def __init__(self, place: Path, says: str = json.dumps(GOOD)) -> None:
        self.place, self.says = place, says

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"import os; os.mkdir({str(self.place)!r}); print({self.says!r}, flush=True)",)


def test_an_export_opens_no_pickle(tmp_path: Path) -> None:
    for fold in range(2):
        dump(tmp_path / "checkpoint", fold, Trap(tmp_path / "trap"))
    error = refusal(read_calibration, tmp_path / "checkpoint", 2)
    assert error.code == "CALIBRATION_NOT_CONVERTED"
    assert f"noduleserve convert-calibration {tmp_path / 'checkpoint'}" in error.mend
    assert not (tmp_path / "trap").exists()


def test_there_is_nothing_to_convert(tmp_path: Path) -> None:
    assert refusal(convert_calibration, tmp_path).code == "CALIBRATION_NOT_FOUND"


# What the outcomes follow, and which coefficient betacal then leaves out since it would be negative.
FITS = {
    "steeper": ((1.8, 1.5, 0.3), None),
    "flatter": ((0.5, 0.4, -1.0), None),
    "b only": ((-0.8, 2.5, 0.2), "a"),
    "a only": ((2.5, -0.8, 0.2), "b"),
}


def test_converted_numbers_calibrate_as_betacal_does(tmp_path: Path) -> None:
    models = [fitted(*truth) for truth, _ in FITS.values()]
    for fold, model in enumerate(models):
        write(tmp_path, fold, numbers_of(model))
    numbers = read_calibration(tmp_path, len(FITS))
    p = np.concatenate([np.linspace(1e-4, 1 - 1e-4, 999), [1e-12, 1 - 1e-12]])
    for abc, model, (truth, dropped) in zip(numbers, models, FITS.values(), strict=True):
        assert [k for k in "ab" if abc[k] == 0] == ([dropped] if dropped else [])
        expected = model.predict(p.reshape(-1, 1))
        found = 1 / (1 + np.exp(-(abc["a"] * np.log(p) - abc["b"] * np.log1p(-p) + abc["c"])))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(plain.beta_calibrated(p[:-2], **abc), expected[:-2], rtol=0, atol=1e-9)
        if not dropped:
            np.testing.assert_allclose(list(abc.values()), truth, rtol=0, atol=0.6)


@pytest.mark.parametrize("parameters", ["am", "ab"])
def test_fits_of_two_parameters_are_converted_too(tmp_path: Path, parameters: str) -> None:
    model = fitted(1.8, 1.5, 0.3, parameters)
    dump(tmp_path, 0, model)
    convert_calibration(tmp_path)
    (abc,) = read_calibration(tmp_path, 1) or []
    p = np.linspace(1e-4, 1 - 1e-4, 999)
    np.testing.assert_allclose(plain.beta_calibrated(p, **abc), model.predict(p.reshape(-1, 1)), rtol=0, atol=1e-9)
    assert (abc["a"] == abc["b"]) == (parameters == "am")


def test_the_published_pickles(published_checkpoint: Path, tmp_path: Path) -> None:
    expected = []
    for fold in range(2):
        name = f"fold_{fold}/cal_{fold}.pkl"
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes((published_checkpoint / name).read_bytes())
        lr = joblib.load(tmp_path / name).calibrator_.lr_
        expected.append({"a": lr.coef_[0, 0], "b": lr.coef_[0, 1], "c": lr.intercept_[0]})
    written = convert_calibration(tmp_path)
    assert written == [tmp_path / f"fold_{fold}" / "calibration.json" for fold in range(2)]
    assert read_calibration(tmp_path, 2) == expected


def test_a_conversion_runs_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def run(command: list[str], **options: Any) -> Any:
        started.append(command)
        return original(command, **options)

    original = calibration.subprocess.run
    monkeypatch.setattr(calibration.subprocess, "run", run)
    monkeypatch.setattr(joblib, "load", None)
    monkeypatch.setattr(pickle, "load", None)
    file = dump(tmp_path, 0, fitted(1, 1, 0))
    convert_calibration(tmp_path)
    assert [command[-1] for command in started] == [str(file)]


class Leaver:
    """Opening its pickle ends the process with a status of its own, after saying something."""

    def __init__(self, status: int, says: str) -> None:
        self.status, self.says = status, says

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"import os; print({self.says!r}, flush=True); os._exit({self.status})",)


def wrong_objects(trap: Path) -> dict[str, Any]:
    return {
        "numbers": GOOD,
        "another class": SimpleNamespace(
            parameters="abm", calibrator_=SimpleNamespace(map_=[1, 1], lr_=SimpleNamespace(intercept_=[0]))
        ),
        "another kind": fitted(1, 1, 0, "a"),
        "a pickle that runs code": Trap(trap),
        "not fitted": betacal.BetaCalibration(parameters="abm"),
        "backwards": fitted(-1.5, -1.5, 0),
        "a process that ends with an error": Leaver(3, json.dumps(GOOD)),
        "a process that says nothing": Leaver(0, ""),
        "a process that says something else": Leaver(0, "[]"),
    }


def test_wrong_objects_are_refused_and_leave_no_numbers(tmp_path: Path) -> None:
    for number, (what, content) in enumerate(wrong_objects(tmp_path / "trap").items()):
        folder = tmp_path / str(number)
        file = dump(folder, 0, content)
        error = refusal(convert_calibration, folder)
        assert error.code == "CALIBRATION_INVALID", what
        assert "fold_0/" in error.what, what
        assert [p.name for p in file.parent.iterdir()] == ["cal_0.pkl"], what


def test_a_file_that_is_no_pickle(tmp_path: Path) -> None:
    for fold, content in enumerate((b"", pickle.dumps(fitted(1, 1, 0))[:-100])):
        folder = tmp_path / str(fold)
        dump(folder, 0, 1).write_bytes(content)
        assert refusal(convert_calibration, folder).code == "CALIBRATION_INVALID"


def test_earlier_numbers_outlive_a_failed_conversion(tmp_path: Path) -> None:
    file = write(tmp_path, 0, GOOD)
    dump(tmp_path, 0, [1, 2, 3])
    assert refusal(convert_calibration, tmp_path).code == "CALIBRATION_INVALID"
    assert json.loads(file.read_text()) == GOOD
