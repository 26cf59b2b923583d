"""Every code that is raised stands in a table, every code of a table is raised, and the documentation has them all."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from noduleserve.benchmarks.codes import BENCHMARK_CODES
from noduleserve.client.codes import CLIENT_CODES, MODEL_CODES, REQUEST_CODES
from noduleserve.commands.codes import code_tables, codes, markdown
from noduleserve.ct.codes import SERIES_CODES, WARNING_CODES
from noduleserve.evaluation.codes import EVALUATION_CODES
from noduleserve.journal.codes import JOURNAL_CODES
from noduleserve.preprocessing.errors import MENDS
from noduleserve.results.codes import OUTPUT_CODES
from noduleserve.training.codes import TRAINING_CODES
from noduleserve.worklist.codes import WORKLIST_CODES

ROOT = Path(__file__).parent.parent
CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
# Words of that shape that are given to calls and are no codes of ours.
OTHER_WORDS = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}
START, END = "<!-- codes: printed by `noduleserve codes --markdown` -->", "<!-- end of codes -->"


def codes_in(*places: str) -> dict[str, str]:
    """Codes that stand within the arguments of any call, with the file of each; a helper may be what raises them."""
    found = {}
    for place in places:
        files = sorted((ROOT / place).rglob("*.py")) if (ROOT / place).is_dir() else [ROOT / place]
        assert files
        for file in files:
            if file.name != "codes.py":
                found.update(dict.fromkeys(_given_to_calls(file), file.relative_to(ROOT).as_posix()))
    return {code: file for code, file in found.items() if code not in OTHER_WORDS}


def _given_to_calls(file: Path) -> set[str]:
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    arguments = [a for call in calls for a in (*call.args, *(keyword.value for keyword in call.keywords))]
    constants = [n.value for a in arguments for n in ast.walk(a) if isinstance(n, ast.Constant)]
    return {value for value in constants if isinstance(value, str) and CODE.fullmatch(value)}


def first_arguments(error: str, *places: str) -> set[str]:
    """The codes that an error or a warning of that name is made with, where they are written out."""
    found = set()
    for place in places:
        for file in sorted((ROOT / place).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == error and node.args:
                    found |= {n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant)}
    return found


def test_series_and_warning_codes_are_those_of_the_readers() -> None:
    raised = codes_in("ct")
    known = SERIES_CODES.keys() | WARNING_CODES.keys()
    assert {code: file for code, file in raised.items() if code not in known} == {}
    # A geometry that cannot be is refused by the preprocessing and handed on; the client catches what nobody foresaw.
    elsewhere = {"VOXEL_TOO_LARGE", "AFFINE_SINGULAR", "AFFINE_NOT_FINITE"}
    assert elsewhere <= MENDS.keys()
    assert "SERIES_UNREADABLE" in codes_in("client/readers/series_reader.py")
    assert sorted(known - raised.keys() - elsewhere) in ([], ["SERIES_UNREADABLE"])


def test_errors_and_warnings_are_not_taken_for_one_another() -> None:
    assert not SERIES_CODES.keys() & WARNING_CODES.keys()
    assert first_arguments("SeriesError", "ct", "look", "worklist") <= SERIES_CODES.keys()
    assert first_arguments("InputWarning", "ct") <= WARNING_CODES.keys()
    assert len(first_arguments("SeriesError", "ct")) > 20


def test_worklist_codes_are_those_of_the_worklist_room() -> None:
    raised = codes_in("worklist")
    known = WORKLIST_CODES.keys() | SERIES_CODES.keys() | WARNING_CODES.keys()
    assert {code: file for code, file in raised.items() if code not in known} == {}
    assert first_arguments("WorklistError", "worklist") <= WORKLIST_CODES.keys()
    assert sorted(WORKLIST_CODES.keys() - raised.keys()) == []


def test_client_codes_are_those_of_the_client() -> None:
    arguments = {*_arrays_of_the_contract(), *SERIES_CODES}
    raised = {code: file for code, file in codes_in("client").items() if code not in arguments}
    assert {code: file for code, file in raised.items() if code not in CLIENT_CODES} == {}
    assert sorted(CLIENT_CODES.keys() - raised.keys()) == []
    for error in ("ServerError", "RequestRefused", "NoduleserveError"):
        assert first_arguments(error, "client") <= CLIENT_CODES.keys() | SERIES_CODES.keys()


@pytest.mark.parametrize(
    ("room", "error", "known"),
    [
        ("journal", "JournalError", JOURNAL_CODES.keys()),
        ("results", "ResultsError", OUTPUT_CODES.keys()),
        ("evaluation", "EvaluationError", EVALUATION_CODES.keys()),
        ("training", "TrainingError", TRAINING_CODES.keys()),
        ("benchmarks", "BenchmarkError", BENCHMARK_CODES.keys()),
    ],
)
def test_codes_of_a_room_of_its_own_error(room: str, error: str, known: set[str]) -> None:
    assert first_arguments(error, room) <= known
    everywhere = set(codes_in(room, "noduleserve/commands", "look"))
    assert sorted(known - everywhere) == []


def _arrays_of_the_contract() -> set[str]:
    from noduleserve.client.messages import OUTPUTS

    return {*OUTPUTS, "BOX_START", "VOLUME_SHAPE", "VOLUME_AFFINE", "NODULE_CENTER"}


def test_request_codes_are_those_of_the_preprocessing() -> None:
    assert REQUEST_CODES.keys() == MENDS.keys()


def test_model_codes_are_those_of_the_models_behind_it() -> None:
    source = (ROOT / "model_repository/nodule_similarity/1/model.py").read_text()
    in_calls = codes_in("model_repository/nodule_similarity/1/model.py")
    assert MODEL_CODES.keys() <= in_calls.keys()
    assert all(f'"{code}"' in source for code in MODEL_CODES)


def test_the_documentation_has_the_tables() -> None:
    text = (ROOT / "docs/input.md").read_text()
    _, _, behind = text.partition(START)
    inside, _, _ = behind.partition(END)
    assert inside.strip() == markdown(), f"run `noduleserve codes --markdown` and put it between {START} and {END}"


def test_every_code_has_one_plain_sentence() -> None:
    for table in code_tables():
        for code, meaning in table.codes.items():
            assert CODE.fullmatch(code)
            assert meaning[0].isupper() and meaning.endswith(".") and "|" not in meaning and len(meaning) < 160


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(codes)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_the_command_prints_every_code() -> None:
    status, output = run()
    assert status == 0
    assert [code for table in code_tables() for code in table.codes if code not in output] == []


def test_the_command_prints_the_markdown_of_the_documentation() -> None:
    assert run("--markdown") == (0, markdown() + "\n")


@pytest.mark.parametrize("code", ["SERIES_UNEVEN", "series_uneven"])
def test_the_command_explains_one(code: str) -> None:
    status, output = run(code)
    assert status == 0
    assert output.startswith(f"SERIES_UNEVEN (series): {SERIES_CODES['SERIES_UNEVEN']}")


def test_a_code_of_two_origins_is_explained_for_both_and_a_request_has_its_mend() -> None:
    _, output = run("AFFINE_SINGULAR")
    assert "AFFINE_SINGULAR (series)" in output and "AFFINE_SINGULAR (request)" in output
    assert f"Mend: {MENDS['AFFINE_SINGULAR']}" in output


def test_an_unknown_code_is_met_with_the_nearest() -> None:
    status, output = run("SERIES_UNEVN")
    assert status == 2
    assert "SERIES_UNEVEN" in output
