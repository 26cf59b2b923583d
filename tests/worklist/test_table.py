from math import isfinite
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noduleserve.errors import WorklistError
from noduleserve.worklist.codes import WORKLIST_CODES
from noduleserve.worklist.table import COLUMNS, is_result_column, read_worklist

HEADER = ",".join(COLUMNS)


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "worklist.csv"
    path.write_bytes(text.encode(encoding))
    return path


def refusal(path: Path) -> WorklistError:
    with pytest.raises(WorklistError) as caught:
        read_worklist(path)
    assert caught.value.what and caught.value.mend
    return caught.value


def test_a_row_becomes_a_nodule(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER},reader\nP1,7, scans/a ,1.5,-2,3e1,A. B.\n")
    (nodule,) = read_worklist(path)
    assert (nodule.number, nodule.pid, nodule.nodule_id) == (0, "P1", "7")
    assert nodule.image_path == tmp_path / "scans/a"
    assert nodule.center == (1.5, -2.0, 30.0)
    assert nodule.problem == ""
    assert list(nodule.columns) == [*COLUMNS, "reader"]
    assert nodule.columns["image_path"] == " scans/a " and nodule.columns["reader"] == "A. B."


def test_image_paths_start_at_the_root_or_are_absolute(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER}\nP,1,a,0,0,0\nP,2,/ct/b.nii,0,0,0\n")
    first, second = read_worklist(path, root=tmp_path / "archive")
    assert first.image_path == tmp_path / "archive" / "a"
    assert second.image_path == Path("/ct/b.nii")


def test_a_relative_worklist_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, f"{HEADER}\nP,1,a,0,0,0\n")
    monkeypatch.chdir(tmp_path)
    assert read_worklist(Path("worklist.csv"))[0].image_path == tmp_path / "a"


def test_byte_order_mark_any_column_order_and_line_ends(tmp_path: Path) -> None:
    text = 'coordZ,coordY,coordX,image_path,nodule_id, pid \r\n3,2,1,"a, b",n,p\r\n\r\n6,5,4,c,n,p'
    nodules = read_worklist(write(tmp_path, text, "utf-8-sig"))
    assert [n.center for n in nodules] == [(1, 2, 3), (4, 5, 6)]
    assert nodules[0].image_path.name == "a, b" and nodules[0].pid == "p"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("P,1,a,x,2,3", "coordX is 'x', not a number"),
        ("P,1,a,1,,3", "coordY is empty."),
        ("P,1,a,1,2,nan", "coordZ is 'nan', not a finite number."),
        ("P,1,a,1,2,-inf", "coordZ is '-inf', not a finite number."),
        ("P,1,a,1_0,2,3", "coordX is '1_0', not a number"),
        ('P,1,a,"1,5",2,3', "coordX is '1,5', not a number"),
        ("P,1,,1,2,3", "image_path is empty."),
        ("P,1,a\0b,1,2,3", "image_path holds a character that no path can hold."),
        ("P,1,a,1,2", "The row has 5 cells, the header 6."),
        ("P,1,a,1,2,3,4", "The row has 7 cells, the header 6."),
        (",,,,,", "image_path is empty."),
        ("P", "The row has 1 cells, the header 6."),
    ],
)
def test_a_bad_row_keeps_its_place_and_says_why(tmp_path: Path, row: str, problem: str) -> None:
    nodules = read_worklist(write(tmp_path, f"{HEADER}\nP,0,a,1,2,3\n{row}\nP,2,b,4,5,6\n"))
    assert [n.number for n in nodules] == [0, 1, 2]
    assert nodules[1].problem.startswith(problem)
    assert [n.problem for n in nodules[::2]] == ["", ""]
    assert nodules[2].center == (4, 5, 6)


def test_no_number_of_a_row_with_shifted_cells_is_used(tmp_path: Path) -> None:
    (nodule,) = read_worklist(write(tmp_path, f"{HEADER}\nP,1,a,b,1,2,3\n"))
    assert nodule.center is None and nodule.pid == "P"


@pytest.mark.parametrize("missing", COLUMNS)
def test_missing_columns(tmp_path: Path, missing: str) -> None:
    header = ",".join(name for name in COLUMNS if name != missing)
    error = refusal(write(tmp_path, f"{header}\n1,2,3,4,5\n"))
    assert error.code == "WORKLIST_COLUMNS" and missing in error.what


def test_a_column_twice(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, f"{HEADER},pid\nP,1,a,1,2,3,P\n"))
    assert error.code == "WORKLIST_COLUMNS" and "pid" in error.what


def test_columns_that_results_are_written_under(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, f"{HEADER},raw_0,note,semantic.margin.smooth\nP,1,a,1,2,3,0.5,x,1\n"))
    assert error.code == "WORKLIST_COLUMNS"
    assert "raw_0, semantic.margin.smooth" in error.mend and "note" not in error.mend


@pytest.mark.parametrize(
    ("name", "clashes"),
    [
        ("raw_0", True),
        ("raw_12", True),
        ("calibrated_3", True),
        ("ensemble", True),
        ("calibrated_ensemble", True),
        ("semantic.a.b", True),
        ("release", True),
        ("status", True),
        ("error_code", True),
        ("error", True),
        ("raw", False),
        ("raw_x", False),
        ("warnings", True),
        ("warning", False),
        ("errors", False),
        ("semantics", False),
        ("pid", False),
    ],
)
def test_result_columns(name: str, clashes: bool) -> None:
    assert is_result_column(name) is clashes


def test_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.csv").code == "WORKLIST_NOT_FOUND"


def test_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path).code == "WORKLIST_UNREADABLE"


def test_not_utf_8(tmp_path: Path) -> None:
    text = f"{HEADER},reader\nP,1,a,1,2,3,Müller\n"
    assert refusal(write(tmp_path, text, "latin-1")).code == "WORKLIST_UNREADABLE"
    assert refusal(write(tmp_path, text, "utf-16")).code == "WORKLIST_UNREADABLE"


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_lacks_every_column(tmp_path: Path, text: str) -> None:
    assert refusal(write(tmp_path, text)).code == "WORKLIST_COLUMNS"


@pytest.mark.parametrize("text", [HEADER, f"{HEADER}\n", f"{HEADER}\n\n  \n"])
def test_no_rows(tmp_path: Path, text: str) -> None:
    assert refusal(write(tmp_path, text)).code == "WORKLIST_EMPTY"


@pytest.mark.parametrize(
    "rows",
    [
        'P,1,"a,1,2,3\nP,2,b,1,2,3\n',  # never closed: would swallow the rows below
        'P,1,"a,1,2,3\nP,2,"b,1,2,3\n',  # closed by the next row's stray mark
        'P,1,"a,1,2,3\nP,2,b",1,2,3\n',  # closes properly, two rows in one
        'P,1,"a"x,1,2,3\n',
    ],
)
def test_misplaced_quotation_marks_lose_no_rows(tmp_path: Path, rows: str) -> None:
    error = refusal(write(tmp_path, f"{HEADER},note\n" + rows.replace("2,3\n", "2,3,n\n") + "P,9,c,1,2,3,n\n"))
    assert error.code == "WORKLIST_QUOTES"


def test_a_note_may_hold_quotes_and_line_breaks(tmp_path: Path) -> None:
    nodules = read_worklist(write(tmp_path, f'{HEADER},note\nP,1,a,1,2,3,"two\nlines, ""quoted"""\nP,2,a,1,2,3,\n'))
    assert [n.columns["note"] for n in nodules] == ['two\nlines, "quoted"', ""]


CELL = st.text(st.characters(exclude_characters='"\r\n', exclude_categories=["Cs"]), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELL, min_size=2, max_size=9), min_size=1, max_size=5))
def test_as_many_nodules_as_rows_whatever_they_hold(tmp_path: Path, rows: list[list[str]]) -> None:
    lines = [",".join(cell.replace(",", ";") for cell in row) for row in rows]
    nodules = read_worklist(write(tmp_path, "\n".join([HEADER, *lines])))
    assert [n.number for n in nodules] == list(range(len(rows)))
    for nodule in nodules:
        assert list(nodule.columns) == list(COLUMNS)
        assert nodule.problem or nodule.center is not None
        assert nodule.image_path.is_absolute()


# ---------------------------------------------------------------- the series, other separators, damage


def test_the_series_may_be_named(tmp_path: Path) -> None:
    rows = "P,1,a,1,2,3, 1.2.840 \nP,2,a,1,2,3,\nP,3,a,1,2,3,Chest\n"
    named, unnamed, wrong = read_worklist(write(tmp_path, f"{HEADER},series_uid\n{rows}"))
    assert (named.series_uid, named.problem) == ("1.2.840", "")
    assert (unnamed.series_uid, unnamed.problem) == ("", "")
    assert (wrong.series_uid, wrong.problem) == ("", "series_uid is 'Chest', not a DICOM UID.")
    assert read_worklist(write(tmp_path, f"{HEADER}\nP,1,a,1,2,3\n"))[0].series_uid == ""


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_other_separators(tmp_path: Path, separator: str, encoding: str) -> None:
    rows = ["P;1;a, b;1.5;2;3;x", "P;2;c;1,5;2;3;y"]
    text = "\n".join([HEADER.replace(",", ";") + ";note", *rows]).replace(";", separator)
    first, second = read_worklist(write(tmp_path, text, encoding))
    assert (first.center, first.image_path.name, first.columns["note"]) == ((1.5, 2, 3), "a, b", "x")
    # 1,5 may be one and a half or the head of 1,500: nobody guesses where a nodule is.
    assert second.center is None and second.problem.startswith("coordX is '1,5', not a number")


def test_mixed_separators_are_missing_columns(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, HEADER.replace(",", ";", 2) + "\nP;1;a,1,2,3\n"))
    assert error.code == "WORKLIST_COLUMNS"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16(tmp_path: Path, encoding: str) -> None:
    mark = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    error = refusal(write(tmp_path, f"{mark}{HEADER}\nP,1,a,1,2,3\n", encoding))
    assert error.code == "WORKLIST_UNREADABLE" and "UTF-8" in error.mend


def test_what_is_too_long_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "worklist.csv"
    with path.open("wb") as file:
        file.write(f"{HEADER}\n".encode())
        file.truncate(2**33)  # a sparse file of one endless line
    assert refusal(path).code == "WORKLIST_TOO_LARGE"
    assert refusal(write(tmp_path, f"{HEADER}\nP,1,{'a' * 200_000},1,2,3\n")).code == "WORKLIST_QUOTES"


def test_mutated_worklists_end_in_nodules_or_an_error(tmp_path: Path) -> None:
    text = f'{HEADER},note,series_uid\r\nP1,7,"scans, a",1.5,-2,3e1,"A ""B""",1.2.3\nP2,8,b,4,5,6,,\n' * 2
    good, random = text.encode("utf-8-sig"), Random(20)
    seeds = [b"\0", b'"', b"\n", b"\r", b",", b";", b"\t", b"\xff", b"\xfe", b"nan", b"1e999", b"\xe2\x80\xa8", b"-"]
    read = 0
    for _ in range(500):
        data = bytearray(good)
        for _ in range(random.randint(1, 8)):
            at = random.randrange(len(data))
            data[at : at + random.randint(0, 3)] = random.choice([*seeds, bytes([random.randrange(256)])])
        if random.random() < 0.2:
            del data[random.randrange(len(data)) :]
        path = tmp_path / "worklist.csv"
        path.write_bytes(data)
        try:
            nodules = read_worklist(path)
        except WorklistError as error:
            assert error.code in WORKLIST_CODES and error.mend
            continue
        read += 1
        assert [n.number for n in nodules] == list(range(len(nodules)))
        for nodule in nodules:
            assert nodule.problem or (nodule.center is not None and all(map(isfinite, nodule.center)))
    assert 50 < read < 450
