"""Every number that a training can be given, with the paper's values where the paper gives one."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from noduleserve.errors import TrainingError

from .data.augmentation import Variation
from .model.lesson import Teaching
from .model.lora import LAYERS, Lora, Tuning

Schedule = Literal["constant", "cosine"]
Monitor = Literal["loss", "malignancy", "semantic", "both"]
Beginning = Literal["drawn", "views"]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; everything but the data and the towers that it begins with.

    Attributes:
        tuning: what is trained of the towers; see model/lora.py.
        folds: models of the ensemble; each is validated on the patients of its part. 1: one model, validated on a
            `validation_share` of the patients.
        validation_share: of the patients, where there is one fold.
        seed: of every draw.
        out: width of the nodule's embedding.
        epochs: at most.
        batch: nodules in a step.
        learning_rate: of AdamW, towers and heads.
        head_learning_rate: of the heads, where it is to be another.
        matrix_learning_rate: of Muon, for the matrices of the towers' blocks where tuning is `full`; 0: AdamW has them.
        weight_decay: of every matrix; vectors and tables of embeddings have none.
        schedule: `constant`, or `cosine` down to 0 at the last epoch.
        warmup_epochs: the learning rate climbs from 0 that long; parts of an epoch are allowed.
        largest_gradient: norm that gradients are clipped to; 0: they are not.
        momentum: beta2 of AdamW: how slowly the mean of squared gradients changes.
        patience: epochs without a better validation that are waited for, and the best is kept; 0: all epochs are run,
            and the last is kept.
        monitor: what a better validation is: a lower `loss`, a higher AUROC of `malignancy`, a higher mean AUROC of
            the `semantic` features, or a higher mean of `both`.
        average: each step, this share of a running average of the weights is kept, and the average is what is
            validated and kept; 0: the weights themselves.
        soft_labels: learn from the share of the readers who say a thing, where the source tells, instead of from what
            they say together.
        balanced: draw nodules so that both classes of malignancy come equally often.
        temperature: of the contrast at the beginning; it is learned.
        label_smoothing: of the contrast.
        class_smoothing: of the classifications.
        contrast_weight, image_weight, text_weight: of the losses.
        feature_weight: of the loss on each semantic feature's prompts, which is not the paper's; 0: none.
        rating_weight: of the loss on ratings and diameter, which is not the paper's; 0: none.
        beginning: of an image tower that nobody has trained: its patches as `drawn`, or taken from the `views`.
        half: round towers that were trained with one fold to half precision, which halves the file of a base.
        teaching: a teacher whom the towers learn from, where tuning is `full`; not the paper's.
        lora: adapters, where tuning is `lora`.
        variation: of the views, where the source varies them.
    """

    tuning: Tuning = "lora"
    folds: int = 5
    validation_share: float = 0.15
    seed: int = 0
    out: int = 256
    epochs: int = 100
    batch: int = 32
    learning_rate: float = 1e-4
    head_learning_rate: float | None = None
    matrix_learning_rate: float = 0.0
    weight_decay: float = 0.1
    schedule: Schedule = "constant"
    warmup_epochs: float = 0.0
    largest_gradient: float = 0.0
    momentum: float = 0.999
    patience: int = 10
    monitor: Monitor = "loss"
    average: float = 0.0
    soft_labels: bool = False
    balanced: bool = True
    temperature: float = 0.07
    label_smoothing: float = 0.1
    class_smoothing: float = 0.0
    contrast_weight: float = 1.0
    image_weight: float = 0.5
    text_weight: float = 0.5
    feature_weight: float = 0.0
    rating_weight: float = 0.0
    beginning: Beginning = "drawn"
    half: bool = False
    teaching: Teaching = field(default_factory=Teaching)
    lora: Lora = field(default_factory=Lora)
    variation: Variation = field(default_factory=Variation)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    def as_toml(self) -> str:
        """As a file that `read_recipe` reads; what is not set is left out."""
        plain, tables = [], []
        for key, value in self.as_dict().items():
            if isinstance(value, dict):
                tables += ["", f"[{key}]", *(f"{k} = {json.dumps(v)}" for k, v in value.items() if v is not None)]
            elif value is not None:
                plain.append(f"{key} = {json.dumps(value)}")
        return "\n".join([*plain, *tables]) + "\n"


def read_recipe(file: Path) -> Recipe:
    """Read a recipe, .toml or .json; what it does not give is as the paper has it.

    Raises:
        TrainingError: RECIPE_UNREADABLE, RECIPE_INVALID.
    """
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise TrainingError("RECIPE_UNREADABLE", f"{file.name} cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise TrainingError("RECIPE_UNREADABLE", f"{file.name} is not a table of keys.")
    return recipe_of(content, file.name)


def recipe_of(content: dict[str, Any], where: str) -> Recipe:
    """A recipe of a table of keys.

    Raises:
        TrainingError: RECIPE_INVALID, with the key.
    """
    recipe: Recipe = _build(Recipe, content, where, "")
    require_sense(recipe, where)
    return recipe


def _build(kind: Any, content: dict[str, Any], where: str, prefix: str) -> Any:
    """A dataclass of a table, its keys and their types looked at."""
    kinds = typing.get_type_hints(kind)
    given: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, 1, 0.5)
            hint = f"is it {prefix}{near[0]}?" if near else f"known are {', '.join(kinds)}"
            raise invalid(where, f"the key {name} is unknown ({hint})")
        if dataclasses.is_dataclass(kinds[key]):
            if not isinstance(value, dict):
                raise invalid(where, f"{name} is not a table")
            given[key] = _build(kinds[key], value, where, f"{name}.")
        else:
            given[key] = _value(kinds[key], value, name, where)
    return kind(**given)


def _value(kind: Any, value: Any, name: str, where: str) -> Any:
    """One value of the type that the field has."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value in inner:
            return value
        raise invalid(where, f"{name} is {value!r}, not one of {', '.join(inner)}")
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _value(next(k for k in inner if k is not type(None)), value, name, where)
    if origin is tuple:
        if not isinstance(value, list | tuple) or (inner[-1] is not Ellipsis and len(value) != len(inner)):
            raise invalid(where, f"{name} is {value!r}, not a list of the right length")
        return tuple(_value(inner[0], part, name, where) for part in value)
    fits = isinstance(value, int | float) and not isinstance(value, bool) if kind is float else type(value) is kind
    if not fits:
        raise invalid(where, f"{name} is {value!r}, not {'a number' if kind is float else f'of type {kind.__name__}'}")
    return float(value) if kind is float else value


def require_sense(recipe: Recipe, where: str) -> None:
    """Refuse numbers that no training can be run with.

    Raises:
        TrainingError: RECIPE_INVALID.
    """
    above_0 = ("folds", "out", "epochs", "batch", "learning_rate", "temperature")
    not_below_0 = (
        "seed",
        "patience",
        "weight_decay",
        "warmup_epochs",
        "largest_gradient",
        "contrast_weight",
        "image_weight",
        "text_weight",
        "feature_weight",
        "rating_weight",
        "matrix_learning_rate",
    )
    shares = ("label_smoothing", "class_smoothing", "average", "momentum", "validation_share")
    checks = [(f"{name} must be above 0", getattr(recipe, name) > 0) for name in above_0]
    checks += [(f"{name} must not be below 0", getattr(recipe, name) >= 0) for name in not_below_0]
    checks += [(f"{name} must be from 0 to below 1", 0 <= getattr(recipe, name) < 1) for name in shares]
    lora, variation = recipe.lora, recipe.variation
    checks += [
        ("head_learning_rate must be above 0", recipe.head_learning_rate is None or recipe.head_learning_rate > 0),
        ("half is for tuning full with one fold", not recipe.half or (recipe.tuning, recipe.folds) == ("full", 1)),
        ("out must be even", recipe.out % 2 == 0),
        ("validation_share must be above 0 with one fold", recipe.folds > 1 or recipe.validation_share > 0),
        ("lora.rank must be above 0", lora.rank > 0),
        ("lora.alpha must be above 0", lora.alpha > 0),
        ("lora.dropout must be from 0 to below 1", 0 <= lora.dropout < 1),
        (f"lora.layers must be some of {', '.join(LAYERS)}", bool(lora.layers) and set(lora.layers) <= set(LAYERS)),
        ("variation.fewest must be from 1 to variation.most", 1 <= variation.fewest <= variation.most),
        ("variation.most must be at most 9", variation.most <= 9),
        ("variation.orientations must be 1 or 8", variation.orientations in (1, 8)),
        ("matrix_learning_rate is for tuning full", not recipe.matrix_learning_rate or recipe.tuning == "full"),
        ("beginning views is for tuning full", recipe.beginning == "drawn" or recipe.tuning == "full"),
        *_sense_of_teaching(recipe),
    ]
    for sentence, holds in checks:
        if not holds:
            raise invalid(where, sentence)


def _sense_of_teaching(recipe: Recipe) -> list[tuple[str, bool]]:
    teaching = recipe.teaching
    above_0 = ("channels", "batch", "learning_rate")
    not_below_0 = ("epochs", "weight_decay", "answer_weight", "feature_weight", "place_weight")
    return [
        ("teaching is for tuning full", not teaching.epochs or recipe.tuning == "full"),
        *((f"teaching.{name} must be above 0", getattr(teaching, name) > 0) for name in above_0),
        *((f"teaching.{name} must not be below 0", getattr(teaching, name) >= 0) for name in not_below_0),
        ("teaching.dropout must be from 0 to below 1", 0 <= teaching.dropout < 1),
        ("teaching.average must be from 0 to below 1", 0 <= teaching.average < 1),
    ]


def invalid(where: str, why: str) -> TrainingError:
    """The refusal of a recipe."""
    return TrainingError("RECIPE_INVALID", f"{where}: {why}.", "See docs/training.md for the keys of a recipe.")
