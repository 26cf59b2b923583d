"""`noduleserve look` from a terminal: both inputs, both outputs, and refusals with the codes of scoring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from noduleserve.commands.look import look
from noduleserve.errors import NoduleserveError

CENTER = ("40", "33", "-130")


def run(*arguments: object) -> tuple[int, str, BaseException | None]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(look)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.output, result.exception


def code_of(*arguments: object) -> str:
    _, _, error = run(*arguments)
    assert isinstance(error, NoduleserveError), error
    assert error.what and error.mend
    return error.code


@pytest.fixture
def worklist(chest: Path, tmp_path: Path) -> Path:
    path = tmp_path / "w.csv"
    rows = [f"Doe,{n},{chest},{','.join(CENTER)}" for n in "ab"] + [f"Roe,a,{chest},x,0,0", f"Roe,c,{chest},0,0,900"]
    path.write_text("\n".join(["pid,nodule_id,image_path,coordX,coordY,coordZ", *rows]) + "\n")
    return path


def test_a_page_of_a_series(chest: Path, tmp_path: Path) -> None:
    out = tmp_path / "n.html"
    status, output, _ = run(chest, "--center", *CENTER, "--out", out)
    assert (status, output.strip()) == (0, str(out))
    text = out.read_text()
    assert text.startswith("<!doctype html>") and "(40.00, 33.00, -130.00) mm" in text


def test_a_picture_of_a_row_of_a_worklist(worklist: Path, tmp_path: Path) -> None:
    pictures = []
    for choice in (("--row", "2"), ("--nodule", "b"), ("--pid", "Doe", "--nodule", "b")):
        out = tmp_path / "n.PNG"
        assert run(worklist, *choice, "--out", out, "--context", "soft")[0] == 0
        pictures.append(np.asarray(Image.open(out)))
    assert pictures[0].shape[1] == 1600
    assert all((picture == pictures[0]).all() for picture in pictures)


def test_a_worklists_page_names_the_row_but_nobody(worklist: Path, tmp_path: Path, secrets: tuple[str, ...]) -> None:
    out = tmp_path / "n.html"
    assert run(worklist, "--row", 1, "--out", out, "--context", "none", "--no-crosshair")[0] == 0
    text = out.read_text()
    assert "Row 1 of the worklist" in text
    assert [word for word in secrets if word in text] == []
    assert "data-plane" not in text and " checked" not in text


def test_warnings_are_told_beside_the_output(chest: Path, tmp_path: Path) -> None:
    status, output, _ = run(chest, "--center", 90, 33, -130, "--out", tmp_path / "n.html", "--context", "none")
    assert status == 0
    assert "VIEWS_BEYOND_VOLUME" in output


def test_what_scoring_refuses_is_refused_with_its_code_and_nothing_is_written(
    chest: Path, worklist: Path, tmp_path: Path
) -> None:
    out = tmp_path / "n.html"
    assert code_of(chest, "--center", 0, 0, 500, "--out", out) == "CENTER_OUTSIDE"
    assert code_of(chest, "--center", "nan", 0, 0, "--out", out) == "CENTER_NOT_FINITE"
    assert code_of(tmp_path / "nowhere", "--center", *CENTER, "--out", out) == "SERIES_NOT_FOUND"
    assert code_of(chest, "--center", *CENTER, "--series", "1.2.3", "--out", out) == "SERIES_NOT_IN_FOLDER"
    assert code_of(worklist, "--row", 3, "--out", out) == "WORKLIST_ROW"
    assert code_of(worklist, "--nodule", "c", "--out", out) == "CENTER_OUTSIDE"
    assert code_of(worklist, "--row", 3, "--out", out, "--root", chest) == "WORKLIST_ROW"
    assert not out.exists()
    assert code_of(chest, "--center", *CENTER, "--out", tmp_path / "no" / "n.html") == "RESULTS_UNWRITABLE"


def test_wrong_usage(chest: Path, worklist: Path, tmp_path: Path) -> None:
    for arguments, word in (
        ((chest, "--center", *CENTER, "--out", "n.jpg"), ".png"),
        ((chest,), "--center"),
        ((chest, "--center", *CENTER, "--row", 1), "worklist"),
        ((worklist, "--center", *CENTER), "its own"),
        ((worklist,), "4 rows fit"),
        ((worklist, "--nodule", "a"), "2 rows fit"),
        ((worklist, "--row", 9), "0 rows fit"),
    ):
        status, output, _ = run(*arguments)
        assert status == 2, arguments
        assert word in " ".join(output.split()), arguments
