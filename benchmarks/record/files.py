"""A record as a folder of files, and back: JSON holds all of it; CSV, Markdown and pictures are for readers."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from importlib import util
from pathlib import Path
from typing import Any

from noduleserve.errors import BenchmarkError
from noduleserve.export.new_folder import new_folder

from .markdown import markdown_of
from .record import Goal, Line, Plot, Record, Table

FORMAT = "noduleserve benchmark record"
VERSION = 1  # of what the JSON file looks like
SCHEMA = Path(__file__).parent / "record.schema.json"


def write_record(record: Record, folder: Path) -> list[Path]:
    """Write BENCHMARK.json, BENCHMARK.md, a CSV a table, a PNG and an SVG a plot.

    The folder appears whole or not at all. Where matplotlib is not installed, plots are left out and the Markdown says
    so; the JSON file has them as data.

    Args:
        record: the run.
        folder: new, or empty.

    Returns:
        The files, the JSON file first.

    Raises:
        BenchmarkError: RECORD_FOLDER, RECORD_UNWRITABLE.
    """
    require_new(folder)
    try:
        with new_folder(folder) as work:
            names = _write_all(record, work)
    except OSError as error:
        raise BenchmarkError(
            "RECORD_UNWRITABLE", f"{folder.name} cannot be written ({error.strerror}).", "Name another folder."
        ) from None
    return [folder / name for name in names]


def require_new(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        BenchmarkError: RECORD_FOLDER.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BenchmarkError(
            "RECORD_FOLDER",
            f"{folder.name} is there and not an empty folder.",
            "Records are never overwritten: name a new folder.",
        )


def read_record(path: Path) -> Record:
    """Read a record back, equal to the one that was written.

    Args:
        path: of the JSON file, of the folder that holds it, or of one whose folder `record` does.

    Raises:
        BenchmarkError: RECORD_NOT_FOUND, RECORD_FOREIGN, RECORD_VERSION, RECORD_DAMAGED.
    """
    file = _json_in(path) if path.is_dir() else path
    document = _document(file)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BenchmarkError("RECORD_FOREIGN", f"{file.name} is no record of a benchmark.", _MEND)
    if document.get("version") != VERSION:
        raise BenchmarkError(
            "RECORD_VERSION",
            f"{file.name} has version {document.get('version')!r} of the format; this is version {VERSION}.",
            "Read it with the noduleserve that wrote it.",
        )
    if fault := _fault(document):
        raise _damaged(file, fault)
    try:
        return _record(document["record"])
    except (ValueError, TypeError) as error:
        raise _damaged(file, str(error)) from None


_MEND = "Name a folder that `noduleserve bench ... --out` has written, or the JSON file in it."


def _write_all(record: Record, folder: Path) -> list[str]:
    drawn = not record.plots or util.find_spec("matplotlib") is not None
    names = [f"{record.benchmark}.json", f"{record.benchmark}.md"]
    text = json.dumps({"format": FORMAT, "version": VERSION, "record": _plain(record)}, indent=1, allow_nan=False)
    (folder / names[0]).write_text(text + "\n", encoding="utf-8")
    (folder / names[1]).write_text(markdown_of(record, drawn=drawn), encoding="utf-8")
    for table in record.tables:
        names.append(f"{table.name}.csv")
        with (folder / names[-1]).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([table.columns, *table.rows])
    if drawn and record.plots:
        from .plots import draw

        for plot in record.plots:
            names += [path.name for path in draw(plot, folder)]
    return names


def _plain(record: Record) -> dict[str, Any]:
    document = asdict(record)
    for plot in document["plots"]:
        for line in plot["lines"]:
            for name in ("x", "y", "low", "high"):
                line[name] = [None if value != value else value for value in line[name]]  # NaN, which JSON has not
    return document


def _json_in(folder: Path) -> Path:
    inner = folder / "record"  # as a soak has it, beside its own files
    found = sorted((inner if inner.is_dir() else folder).glob("*.json"))
    if len(found) != 1:
        raise BenchmarkError("RECORD_NOT_FOUND", f"{folder.name} has {len(found)} JSON files, not one.", _MEND)
    return found[0]


def _document(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchmarkError("RECORD_NOT_FOUND", f"{file.name} cannot be read ({error.strerror}).", _MEND) from None
    except ValueError:
        raise _damaged(file, "it is not JSON") from None


def _fault(document: dict[str, Any]) -> str:
    """What the schema finds wrong, "" for nothing."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    error = best_match(Draft202012Validator(schema).iter_errors(document))
    return f"{error.json_path}: {error.message[:200]}" if error else ""


def _damaged(file: Path, fault: str) -> BenchmarkError:
    return BenchmarkError("RECORD_DAMAGED", f"{file.name} is damaged: {fault}.", "Take it from where it was kept.")


def _record(found: dict[str, Any]) -> Record:
    tables = [Table(**(table | {"goals": tuple(Goal(**goal) for goal in table["goals"])})) for table in found["tables"]]
    plots = [Plot(**(plot | {"lines": [Line(**line) for line in plot["lines"]]})) for plot in found["plots"]]
    return Record(**(found | {"tables": tables, "plots": plots}))
