"""From sources to a written worklist: masks, the choice of the CT, failures, the command."""

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import typer
from marking import MarkedCt, contour, write_ct, write_rtstruct
from numpy.typing import NDArray
from typer.testing import CliRunner

from noduleserve.commands.worklist import worklist
from noduleserve.errors import WorklistError
from noduleserve.worklist.codes import WORKLIST_CODES
from noduleserve.worklist.collect import KINDS, Collected, Collector, find_sources, kind_of
from noduleserve.worklist.table import read_worklist
from noduleserve.worklist.write import write_worklist

sitk = pytest.importorskip("SimpleITK", reason="masks are read with SimpleITK")

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def masks(shape: tuple[int, ...] = (14, 12, 10)) -> NDArray[np.uint8]:
    """Two pieces [x, y, z], of which the second touches itself at a corner only."""
    mask = np.zeros(shape, np.uint8)
    mask[4:9, 3:6, 2:5] = 1
    mask[1, 8, 7] = mask[2, 9, 8] = 1
    return mask


VOXELS = [(6, 4, 3), (1.5, 8.5, 7.5)]


def write_mask(path: Path, stored: NDArray[Any], affine: NDArray[np.float64]) -> Path:
    if path.name.endswith((".nii", ".nii.gz")):
        nibabel.save(nibabel.Nifti1Image(stored, TO_RAS @ affine), path)
        return path
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored.T))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


def collect(path: Path, series: Path | None = None, **options: Any) -> Collected:
    ((source, kind),) = find_sources([path])
    return Collector(series, **options).collect(source, kind)


def code(done: Collected) -> str:
    assert done.error is not None and not done.rows and done.error.mend
    return done.error.code


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("values", ["one", "several"])
def test_masks(tmp_path: Path, marked_ct: MarkedCt, suffix: str, values: str) -> None:
    stored = masks()
    stored[stored > 0] = 7
    if values == "several":
        stored[1:3] = np.where(stored[1:3] > 0, 3, 0)
    path = write_mask(tmp_path / f"P-9.mask{suffix}", stored, marked_ct.affine)
    done = collect(path, marked_ct.folder)
    assert done.error is None and [row.kind for row in done.rows] == ["mask"] * 2
    centers = sorted(row.marking.center for row in done.rows)
    np.testing.assert_allclose(centers, sorted(marked_ct.lps(*VOXELS).tolist()), atol=1e-4)
    assert sorted(row.marking.nodule_id for row in done.rows) == (["1", "2"] if values == "one" else ["3", "7"])
    assert {(row.pid, row.series_uid, row.image) for row in done.rows} == {("P-4711", marked_ct.uid, marked_ct.folder)}
    assert {row.image for row in collect(path).rows} == {None}  # a mask does not say which CT is its own
    assert {row.pid for row in collect(path).rows} == {"P-9"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda mask: mask.astype(np.int16) - 1, "WORKLIST_SOURCE_NOT_MASK"),
        (lambda mask: mask * np.float32(0.5), "WORKLIST_SOURCE_NOT_MASK"),
        (lambda mask: mask * np.float32(70000), "WORKLIST_SOURCE_NOT_MASK"),
        (lambda mask: mask * np.float32("nan"), "NIFTI_NOT_FINITE"),
        (lambda mask: mask * 0, "WORKLIST_SOURCE_NO_NODULE"),
        (lambda mask: np.indices((30, 30, 30)).sum(axis=0).astype(np.uint8) % 2 * np.arange(27000, dtype=np.uint16)
         .reshape(30, 30, 30), "WORKLIST_SOURCE_TOO_MANY"),
    ],
)  # fmt: skip
def test_what_is_no_mask(tmp_path: Path, marked_ct: MarkedCt, change: Any, expected: str) -> None:
    assert code(collect(write_mask(tmp_path / "mask.nii", change(masks()), marked_ct.affine))) == expected


def test_marks_outside_the_series(tmp_path: Path, marked_ct: MarkedCt) -> None:
    affine = marked_ct.affine.copy()
    affine[:3, 3] += 20 * affine[:3, 2]  # beyond the last slice
    path = write_mask(tmp_path / "mask.nii", masks(), affine)
    assert code(collect(path, marked_ct.folder)) == "WORKLIST_SOURCE_OUTSIDE"
    ct = tmp_path / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((14, 12, 10), np.int16), TO_RAS @ marked_ct.affine), ct)
    assert code(collect(path, ct)) == "WORKLIST_SOURCE_OUTSIDE"
    good = collect(write_mask(path, masks(), marked_ct.affine), ct)
    assert [(row.image, row.series_uid) for row in good.rows] == [(ct, "")] * 2


# ---------------------------------------------------------------- which CT


def point(ct: MarkedCt) -> list[tuple[str, str, list[Any]]]:
    return [("nodule", "", [contour(ct.lps((5, 5, 5)), "POINT")])]


def test_a_source_finds_the_series_that_it_names(tmp_path: Path, marked_ct: MarkedCt) -> None:
    path = write_rtstruct(tmp_path / "rs.dcm", marked_ct, point(marked_ct))
    (beside,) = collect(path).rows
    assert (beside.image, beside.series_uid) == (marked_ct.folder, marked_ct.uid)
    shutil.copytree(marked_ct.folder, tmp_path / "archive" / "a")
    other = write_ct(tmp_path / "archive" / "b", series_uid="1.2.3.5")
    (chosen,) = collect(path, tmp_path / "archive").rows
    assert chosen.image == tmp_path / "archive" / "a"
    assert code(collect(path, other.folder)) == "WORKLIST_SOURCE_OTHER_SERIES"
    mask = write_mask(tmp_path / "mask.nii", masks(), marked_ct.affine)
    assert code(collect(mask, tmp_path / "archive")) == "WORKLIST_SOURCE_AMBIGUOUS"


def test_a_series_in_the_same_frame_of_reference_has_the_same_coordinates(tmp_path: Path, marked_ct: MarkedCt) -> None:
    path = write_rtstruct(tmp_path / "rs.dcm", marked_ct, point(marked_ct))
    again = tmp_path / "again"
    again.mkdir()
    for image in marked_ct.images:  # another reconstruction of the scan
        image.SeriesInstanceUID = "1.2.3.6"
        image.save_as(again / f"{image.InstanceNumber}.dcm")
    (row,) = collect(path, again).rows
    assert (row.image, row.series_uid) == (again, "1.2.3.6")
    for image in marked_ct.images:  # the series named, moved to another frame
        image.SeriesInstanceUID, image.FrameOfReferenceUID = "1.2.3.4", "1.9"
        image.save_as(again / f"{image.InstanceNumber}.dcm")
    assert code(collect(path, again)) == "WORKLIST_SOURCE_OTHER_FRAME"


@pytest.mark.parametrize("archived", ["ct", ""])
def test_the_ct_may_be_an_archive(tmp_path: Path, marked_ct: MarkedCt, archived: str) -> None:
    path = write_rtstruct(tmp_path / "rs.dcm", marked_ct, point(marked_ct))
    (study := tmp_path / "study").mkdir()
    shutil.move(marked_ct.folder, study / "ct")
    write_ct(study / "other", series_uid="1.2.3.5")
    archive = Path(shutil.make_archive(str(tmp_path / "study"), "zip", study / archived))
    (row,) = collect(path, archive).rows
    assert (row.image, row.series_uid) == (archive, marked_ct.uid)


def test_only_coordinates_where_the_ct_is_nowhere(tmp_path: Path, marked_ct: MarkedCt) -> None:
    (away := tmp_path / "away").mkdir()
    done = collect(write_rtstruct(away / "rs.dcm", marked_ct, point(marked_ct)))
    assert [(row.image, row.series_uid, row.pid) for row in done.rows] == [(None, marked_ct.uid, "P-4711")]
    write_worklist(tmp_path / "worklist.csv", done.rows)
    (nodule,) = read_worklist(tmp_path / "worklist.csv")
    assert nodule.problem == "image_path is empty."


# ---------------------------------------------------------------- finding, failing, writing


def test_kinds_are_told_from_content(tmp_path: Path, marked_ct: MarkedCt) -> None:
    rs = write_rtstruct(tmp_path / "renamed.bin", marked_ct, point(marked_ct))
    write_mask(tmp_path / "ct.nii", masks(), marked_ct.affine)
    (tmp_path / "notes.xml").write_text("<notes/>")
    (tmp_path / "reading.xml").write_text("<LidcReadMessage/>")
    assert dict(find_sources([tmp_path])) == {rs: "rtstruct", tmp_path / "reading.xml": "lidc"}
    assert dict(find_sources([tmp_path], "mask")) == {tmp_path / "ct.nii": "mask"}
    assert find_sources([rs, rs]) == [(rs, "rtstruct")]
    assert kind_of(marked_ct.folder / "000.dcm") == ""
    with pytest.raises(WorklistError) as caught:
        find_sources([tmp_path / "none"])
    assert caught.value.code == "WORKLIST_SOURCE_NOT_FOUND"
    assert code(collect(tmp_path / "notes.xml")) == "WORKLIST_SOURCE_UNKNOWN"


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_source_of_any_kind_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "source.nii"
    for content in (b"", b"\0" * 128 + b"DICM" + b"\1" * 90, b"<LidcReadMessage>"):
        path.write_bytes(content)
        done = Collector().collect(path, kind)
        assert code(done) in {*WORKLIST_CODES, "NIFTI_UNREADABLE"}


def test_a_structure_set_cut_or_changed_anywhere_is_read_or_refused(tmp_path: Path, marked_ct: MarkedCt) -> None:
    path = write_rtstruct(tmp_path / "rs.dcm", marked_ct, point(marked_ct))
    good, random = path.read_bytes(), np.random.default_rng(3)
    for _ in range(60):
        data = bytearray(good[: random.integers(132, len(good) + 1)])
        for at in random.integers(0, len(data), 3):
            data[at] = random.integers(256)
        path.write_bytes(data)
        done = Collector().collect(path, "rtstruct")
        assert done.error is None or done.error.code in WORKLIST_CODES
        for row in done.rows:
            assert np.isfinite(row.marking.center).all()


@pytest.mark.filterwarnings("ignore:The value length")
def test_ids_are_unique_for_a_patient_and_texts_fit_a_cell(tmp_path: Path, marked_ct: MarkedCt) -> None:
    structures = [('GTV\r\n\tone "q", x' + "y" * 99, "", [contour(marked_ct.lps((5, 5, 5)), "POINT")])]
    paths = [write_rtstruct(tmp_path / name, marked_ct, structures) for name in ("a.dcm", "b.dcm")]
    collector = Collector(pid="P\n7")
    rows = [row for path in paths for row in collector.collect(path, "rtstruct").rows]
    assert [row.marking.nodule_id for row in rows] == ["1", "1#2"]
    write_worklist(tmp_path / "worklist.csv", rows)
    nodules = read_worklist(tmp_path / "worklist.csv")
    assert [(n.nodule_id, n.problem, n.series_uid) for n in nodules] == [("1", "", "1.2.3.4"), ("1#2", "", "1.2.3.4")]
    assert nodules[0].columns["label"].startswith('GTV one "q", xyyy') and len(nodules[0].columns["label"]) == 64
    np.testing.assert_allclose(nodules[0].center, marked_ct.lps((5, 5, 5))[0], atol=1e-4)
    assert nodules[0].image_path == marked_ct.folder
    assert nodules[0].columns["image_path"] == "ct"


def test_an_existing_worklist_is_kept(tmp_path: Path, marked_ct: MarkedCt) -> None:
    rows = collect(write_rtstruct(tmp_path / "rs.dcm", marked_ct, point(marked_ct))).rows
    out = tmp_path / "worklist.csv"
    out.write_text("mine")
    with pytest.raises(WorklistError) as caught:
        write_worklist(out, rows)
    assert caught.value.code == "WORKLIST_EXISTS" and out.read_text() == "mine"
    write_worklist(out, rows, force=True)
    assert len(read_worklist(out)) == 1 and not list(tmp_path.glob("*.part"))
    with pytest.raises(WorklistError) as caught:
        write_worklist(tmp_path / "none" / "worklist.csv", rows)
    assert caught.value.code == "WORKLIST_UNWRITABLE"


# ---------------------------------------------------------------- the command

APP = typer.Typer()
APP.command()(worklist)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_command(tmp_path: Path, marked_ct: MarkedCt) -> None:
    good = write_rtstruct(tmp_path / "rs.dcm", marked_ct, point(marked_ct))
    (bad := tmp_path / "bad.xml").write_text("<LidcReadMessage")
    out = tmp_path / "worklist.csv"
    assert run(bad, "--out", out)[0] == 1 and not out.exists()
    status, output = run(good, bad, "--out", out)
    assert status == 3 and "WORKLIST_SOURCE_UNREADABLE" in output
    assert "1 nodules of 1 patients from 1 sources, 1 not used" in output
    with pytest.raises(WorklistError, match="WORKLIST_EXISTS"):
        run(good, "--out", out)
    assert run(good, "--out", out, "--force", "--pid", "P-1")[0] == 0
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["pid"], row["source"], row["source_kind"], row["label"]) == ("P-1", "rs.dcm", "rtstruct", "nodule")
    status, output = run(good, "--out", tmp_path / "b.csv", "--roi", "(")
    assert status == 2 and "regular expression" in re.sub(r"\s+", " ", output)
    assert run(good, "--out", tmp_path / "b.csv", "--roi", "other")[0] == 1


def test_every_code_of_the_room_is_in_the_table() -> None:
    room = Path(__file__).parents[2] / "worklist"
    used = {code for file in room.rglob("*.py") for code in re.findall(r'"(WORKLIST_[A-Z_0-9]+)"', file.read_text())}
    assert used == set(WORKLIST_CODES)
    assert all(text.endswith(".") for text in WORKLIST_CODES.values())
