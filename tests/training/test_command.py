from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from crop_writing import USUAL, write_crops
from small_training import CONFIG
from typer.testing import CliRunner

from noduleserve.cli import app
from noduleserve.errors import NoduleserveError
from noduleserve.evaluation.evaluate import evaluate
from noduleserve.evaluation.tables import read_labels, read_results
from noduleserve.export.checkpoint import read_checkpoint


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Crops, a configuration of towers, and a recipe for both."""
    readers = [[USUAL | {"malignancy": 5.0 if number % 2 else 1.0}] for number in range(24)]
    write_crops(tmp_path / "crops", readers)
    (tmp_path / "towers.json").write_text(json.dumps(CONFIG))
    (tmp_path / "recipe.toml").write_text("out = 64\nbatch = 8\nepochs = 1\n[variation]\nmost = 1\n")
    return tmp_path


def run(place: Path, *arguments: str) -> str:
    own = ["train", "--data", f"crops:{place / 'crops'}", "--recipe", str(place / "recipe.toml"), *arguments]
    result = CliRunner().invoke(app, own)
    if result.exception:
        raise result.exception
    return result.stdout


def test_a_base_and_then_folds_of_adapters_on_it(place: Path) -> None:
    out = ["--held-out", "0.2", "--never", "P0", "--out"]
    base, lora = place / "base", place / "lora"
    run(place, "--config", str(place / "towers.json"), "--tuning", "full", "--folds", "1", *out, str(base))
    parts = place / "parts.csv"
    scores = place / "scores.csv"
    out = ["--parts", str(parts), "--scores", str(scores), *out]
    said = run(place, "--base", str(base), "--folds", "2", "--threads", "1", "--device", "cpu", *out, str(lora))
    assert "by the diameter alone" in said and f"noduleserve export {lora}" in said
    checkpoint = read_checkpoint(lora)
    assert (checkpoint.tuning, len(checkpoint.folds)) == ("lora", 2)
    record = json.loads((lora / "training.json").read_text())
    assert record["data"]["source"] == "crops" and record["recipe"]["folds"] == 2 and record["threads"] == 1
    assert record["data"]["held_out"]["patients"] == 3  # P0, and a fifth of the other eleven
    assert sorted(path.name for path in place.iterdir()) == [
        *("base", "crops", "lora", "parts.csv", "recipe.toml", "scores.csv", "towers.json")
    ]
    rows = list(csv.DictReader(parts.open()))
    assert [row["nodule_id"] for row in rows] == [str(number) for number in range(24)]
    assert {row["part"] for row in rows} == {"fold 0", "fold 1", "held out"}
    assert [row["part"] for row in rows].count("held out") == record["data"]["held_out"]["nodules"]
    assert (rows[1]["pid"], rows[1]["part"], rows[1]["label"]) == ("P0", "held out", "1")
    assert rows[1]["semantic.consistency"] == "solid"
    assert (rows[1]["malignancy"], rows[1]["texture"]) == ("5.0", str(USUAL["texture"]))
    said_of = list(csv.DictReader(scores.open()))
    held = [row for row in rows if row["part"] == "held out"]
    assert [(row["pid"], row["nodule_id"]) for row in said_of] == [(row["pid"], row["nodule_id"]) for row in held]
    assert all(float(r["ensemble"]) == pytest.approx((float(r["raw_0"]) + float(r["raw_1"])) / 2) for r in said_of)
    found = evaluate(read_results(scores), read_labels(parts)).malignancy
    assert found and found.discrimination.auroc.value == pytest.approx(record["held_out"]["malignancy"])
    with pytest.raises(NoduleserveError, match="OUT_EXISTS"):
        run(place, "--base", str(base), "--folds", "2", *out, str(lora))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--config", "PLACE/towers.json"], "TOWERS_UNTRAINED"),
        (["--config", "PLACE/towers.json", "--base", "PLACE/base"], "TOWERS_UNCLEAR"),
        ([], "TOWERS_UNCLEAR"),
        (["--pretrained", "openai", "--config", "PLACE/towers.json"], "TOWERS_UNCLEAR"),
        (["--base", "PLACE/absent.safetensors"], "BASE_NOT_FOUND"),
        (["--model", "ViT-B-32-quickgelu", "--pretrained", "metaclip_fullcc"], "BASE_NOT_CACHED"),
        (["--config", "PLACE/recipe.toml", "--tuning", "full"], "TOWERS_CONFIG"),
        (["--config", "PLACE/towers.json", "--tuning", "full", "--device", "tpu"], "DEVICE_ABSENT"),
        (["--config", "PLACE/towers.json", "--tuning", "full", "--device", "cuda:99"], "DEVICE_ABSENT"),
        (["--config", "PLACE/towers.json", "--tuning", "full", "--folds", "13"], "SPLIT_TOO_FEW"),
        (["--config", "PLACE/towers.json", "--tuning", "full", "--resume"], "RESUME_NOTHING"),
        (["--config", "PLACE/towers.json", "--tuning", "full", "--recipe", "PLACE/towers.json"], "RECIPE_INVALID"),
    ],
)
def test_what_cannot_be_trained_is_refused(place: Path, arguments: list[str], code: str) -> None:
    with pytest.raises(NoduleserveError) as refused:
        run(place, "--out", str(place / "out"), *(word.replace("PLACE", str(place)) for word in arguments))
    assert refused.value.code == code
    assert not (place / "out").exists() and not (place / "out.training").exists()
