"""`noduleserve train`: nodules with labels become a checkpoint that `noduleserve export` reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from noduleserve.errors import TrainingError

from .console import err, extra_missing

if TYPE_CHECKING:
    from noduleserve.training.fit import Epoch
    from noduleserve.training.model.towers import Towers
    from noduleserve.training.recipe import Recipe
    from noduleserve.training.train import Telling


def train(
    data: Annotated[
        str,
        typer.Option(help="KIND:PATH of the nodules: crops:FOLDER, worklist:FILE or lidc:FOLDER.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint; must not exist yet.", show_default=False)],
    model: Annotated[str, typer.Option(help="CLIP by its name in open_clip, such as ViT-B-32-quickgelu.")] = "",
    pretrained: Annotated[
        str, typer.Option(help="open_clip's tag of its weights, from the cache of this machine; none: drawn.")
    ] = "",
    base: Annotated[
        Path | None,
        typer.Option(help="Instead of --model: a file of CLIP's weights, or a checkpoint of one fold to go on from."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Instead of --model: an open_clip configuration (JSON); weights are drawn.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML or JSON of hyper-parameters; default: the paper's. See docs/training.md.")
    ] = None,
    tuning: Annotated[
        Literal["lora", "full", "probe"] | None,
        typer.Option(help="What is trained of the towers: adapters, every weight, nothing. Default: the recipe's."),
    ] = None,
    folds: Annotated[int | None, typer.Option(min=1, help="Models of the ensemble. Default: the recipe's.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most. Default: the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of every draw. Default: the recipe's.")] = None,
    features: Annotated[Path | None, typer.Option(help="YAML of semantic features; default: the built-in one.")] = None,
    held_out: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the patients that no fold sees, for the last figures.")
    ] = 0.0,
    never: Annotated[str, typer.Option(help="Patients that no fold sees either: ID,ID,...")] = "",
    parts: Annotated[
        Path | None, typer.Option(help="CSV to write which nodule is in which part to; labels for `evaluate`.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="CSV to write the scores of those held out to; results for `evaluate`.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was interrupted.")] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:NUMBER; auto takes a GPU where one is.")
    ] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="Of the CPU; 0: torch's own choice.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Threads that make batches.")] = 1,
) -> None:
    """Train the model of the paper: fold by fold, with early stopping, resumable to the bit.

    The checkpoint holds safetensors and PEFT adapters, the record of the training and its curves. Needs
    `noduleserve[train]`. Until it is whole, OUT.training holds what was done; Ctrl-C loses at most an epoch.

    Examples:

        noduleserve train --data worklist:cohort.csv --model ViT-B-32-quickgelu --pretrained openai --out may

        noduleserve train --data worklist:cohort.csv --model ViT-B-32-quickgelu --pretrained openai --out may --resume

        noduleserve train --data crops:lidc --held-out 0.17 --config small.json --tuning full --folds 1 --out base

        noduleserve train --data crops:lidc --held-out 0.17 --base base --out demo
    """
    try:
        from noduleserve.export.text.features import read_features
        from noduleserve.training.batches import Material
        from noduleserve.training.data.reports import Reports
        from noduleserve.training.data.sources import open_source
        from noduleserve.training.devices import device_of, use_threads
        from noduleserve.training.train import Job
        from noduleserve.training.train import train as run
    except ModuleNotFoundError as error:
        raise extra_missing(error, "train") from None
    if scores and not held_out and not never:
        raise typer.BadParameter("Nobody is held out whose scores could be written: give --held-out or --never.")
    wanted = _recipe(recipe, {"tuning": tuning, "folds": folds, "epochs": epochs, "seed": seed})
    use_threads(threads)
    place = device_of(device)
    towers = _towers(model, pretrained, base, config, wanted)
    if not towers.trained and wanted.tuning != "full":
        raise TrainingError(
            "TOWERS_UNTRAINED",
            f"The towers are drawn at random, and tuning {wanted.tuning} would leave them so.",
            "Train them first with --tuning full, or begin with trained ones.",
        )
    prompts = read_features(features)
    source = open_source(data, wanted.variation, prompts)
    material = Material(source, Reports(prompts), prompts, wanted.soft_labels)
    patients = tuple(name.strip() for name in never.split(",") if name.strip())
    job = Job(material, data.partition(":")[0], towers, wanted, place, held_out, patients, workers, parts, scores)
    try:
        with _shown(wanted) as telling:
            record = run(job, out, resume=resume, telling=telling)
    except KeyboardInterrupt:
        err.print("The same command with --resume goes on after the last whole epoch.")
        raise
    _say(record, out)


def _recipe(file: Path | None, asked: dict[str, Any]) -> Recipe:
    from noduleserve.training.recipe import Recipe, read_recipe, require_sense

    recipe = read_recipe(file) if file else Recipe()
    recipe = dataclasses.replace(recipe, **{key: value for key, value in asked.items() if value is not None})
    require_sense(recipe, "the command")
    return recipe


def _towers(model: str, pretrained: str, base: Path | None, config: Path | None, recipe: Recipe) -> Towers:
    from noduleserve.training.model import towers

    given = [bool(model), base is not None, config is not None]
    if sum(given) != 1 or (pretrained and not model):
        raise TrainingError(
            "TOWERS_UNCLEAR",
            "Exactly one of --model (with --pretrained), --base and --config says what the training begins with.",
            "Give one of them.",
        )
    if base:
        read = towers.checkpoint_towers if base.is_dir() else towers.file_towers
        return read(base, recipe.out)
    if config:
        return towers.configured_towers(config, recipe.out, recipe.seed)
    return towers.named_towers(model, pretrained or None, recipe.out, recipe.seed)


@contextmanager
def _shown(recipe: Recipe) -> Iterator[Telling]:
    """A bar of the steps of an epoch where there is a terminal, and a line for each epoch."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from noduleserve.training.fit import Watch
    from noduleserve.training.train import Telling

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=None)
        now = {"fold": 0, "epoch": 0}

        def fold(number: int, had: int) -> None:
            now.update(fold=number, epoch=had)

        def step(done: int, of: int, losses: dict[str, float]) -> None:
            text = f"fold {now['fold'] + 1}/{recipe.folds}, epoch {now['epoch'] + 1}, loss {losses['total']:.3f}"
            bar.update(task, description=text, completed=done, total=of)

        def teacher(number: int, loss: float) -> None:
            err.print(f"fold {now['fold'] + 1}, teacher's epoch {number + 1}: loss {loss:.4f}", markup=False)

        def epoch(of: Epoch) -> None:
            now["epoch"] = of.number + 1
            err.print(f"fold {now['fold'] + 1}, {_line(of)}", markup=False)

        def line(text: str) -> None:
            bar.update(task, description=text, completed=0, total=None)

        yield Telling(line, fold, Watch(step=step, teacher=teacher, epoch=epoch))


def _line(epoch: Epoch) -> str:
    seen = epoch.validation
    figures = {"malignancy": seen.malignancy, "semantic": seen.mean_semantic}
    aurocs = ", ".join(f"AUROC {name} {value:.3f}" for name, value in figures.items() if value is not None)
    losses = f"loss {epoch.training['total']:.4f}, validation {seen.losses['total']:.4f}"
    mark = " *" if epoch.best else ""
    return f"epoch {epoch.number + 1} ({epoch.seconds:.0f} s): {losses}, {aurocs or 'no AUROC'}{mark}"


def _say(record: dict[str, Any], out: Path) -> None:
    """The figures of each fold's best epoch, and of the patients that no fold saw."""
    from rich.console import Console
    from rich.table import Table

    names = list(dict.fromkeys(label for fold in record["folds"] for label in fold["final"]["semantic"]))
    rows = [(f"fold {fold['fold'] + 1}, epoch {fold['best_epoch'] + 1}", fold["final"]) for fold in record["folds"]]
    if record["held_out"]:
        rows.append(("held out, mean of the folds", record["held_out"]))
    table = Table("AUROC", *(title for title, _ in rows))
    table.columns[0].no_wrap = True
    table.add_row("nodules", *(str(figures["nodules"]) for _, figures in rows))
    for title, key in (("malignancy", "malignancy"), ("by the report alone", "report_malignancy")):
        table.add_row(title, *(_number(figures[key]) for _, figures in rows))
    if record["held_out"]:
        alone = _number(record["held_out"]["diameter_alone"])
        table.add_row("by the diameter alone", *([""] * (len(rows) - 1)), alone)
    for name in names:
        table.add_row(name, *(_number(figures["semantic"].get(name)) for _, figures in rows))
    Console(highlight=False).print(table)
    print(f"checkpoint in {out}: next, noduleserve export {out} --out RELEASE")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
