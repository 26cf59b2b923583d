from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from noduleserve.errors import TrainingError
from noduleserve.training.model.lora import Lora
from noduleserve.training.recipe import Recipe, read_recipe, recipe_of


def test_the_default_is_the_papers() -> None:
    recipe = Recipe()
    assert (recipe.tuning, recipe.folds, recipe.learning_rate, recipe.weight_decay) == ("lora", 5, 1e-4, 0.1)
    assert (recipe.temperature, recipe.label_smoothing, recipe.image_weight, recipe.text_weight) == (
        0.07,
        0.1,
        0.5,
        0.5,
    )
    assert recipe.lora == Lora(2, 1.0, 0.25, True, ("q_proj", "k_proj", "v_proj"))
    assert recipe.balanced and recipe.feature_weight == 0 and recipe.variation.jitter_mm == 5


@pytest.mark.parametrize("ending", ["toml", "json"])
def test_what_is_written_is_read_again(tmp_path: Path, ending: str) -> None:
    recipe = recipe_of(
        {"tuning": "full", "folds": 1, "head_learning_rate": 1, "lora": {"rank": 4}, "variation": {"slice_mm": [1, 2]}},
        "here",
    )
    file = tmp_path / f"recipe.{ending}"
    file.write_text(recipe.as_toml() if ending == "toml" else json.dumps(recipe.as_dict()))
    assert read_recipe(file) == recipe
    assert recipe.variation.slice_mm == (1.0, 2.0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"learning_rat": 1}, "is it learning_rate?"),
        ({"lora": {"dropuot": 0.1}}, "lora.dropuot is unknown (is it lora.dropout?)"),
        ({"lora": 3}, "lora is not a table"),
        ({"tuning": "qlora"}, "not one of lora, full, probe"),
        ({"batch": 3.5}, "not of type int"),
        ({"balanced": 1}, "not of type bool"),
        ({"epochs": True}, "not of type int"),
        ({"weight_decay": "0.1"}, "not a number"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"label_smoothing": 1}, "label_smoothing must be from 0 to below 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
        ({"lora": {"layers": ["q"]}}, "lora.layers must be some of"),
        ({"lora": {"layers": "q_proj"}}, "not a list"),
        ({"variation": {"slice_mm": [1]}}, "not a list of the right length"),
        ({"variation": {"fewest": 4}}, "variation.fewest must be from 1 to variation.most"),
        ({"half": True}, "half is for tuning full with one fold"),
        ({"out": 7}, "out must be even"),
    ],
)
def test_what_cannot_be_is_refused(content: dict[str, object], says: str) -> None:
    with pytest.raises(TrainingError) as refused:
        recipe_of(content, "recipe.toml")
    assert refused.value.code == "RECIPE_INVALID"
    assert says in refused.value.what


@pytest.mark.parametrize(("name", "text"), [("a.toml", "x ="), ("a.json", "{"), ("b.json", "[1]"), ("c.toml", None)])
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(TrainingError, match="RECIPE_UNREADABLE"):
        read_recipe(tmp_path / name)


def test_every_key_is_in_the_documentation_with_its_default() -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    table = rows[next(n for n, row in enumerate(rows) if "`tuning` |" in row) :]
    keys = [key for row in table for key in re.findall(r"`([a-z_]+)`", row.split("|")[1])]
    recipe = Recipe()
    wanted = [
        field.name
        for part in (recipe, recipe.lora, recipe.variation, recipe.teaching)
        for field in dataclasses.fields(part)
    ]
    assert set(wanted) - {"lora", "variation", "teaching"} <= set(keys)
    for name in ("folds", "validation_share", "patience", "temperature", "average", "balanced", "seed"):
        row = next(row for row in table if f"`{name}`" in row.split("|")[1])
        assert json.loads(row.split("|")[2]) == getattr(recipe, name), name
