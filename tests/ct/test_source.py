"""One way to open a CT, whatever it lies in: a folder, an archive, a file."""

import gc
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_writing import write_series
from numpy.typing import NDArray

from noduleserve.ct.dicom import files as dicom_files
from noduleserve.ct.open_volume import open_volume
from noduleserve.ct.source import open_source
from noduleserve.ct.volume import Volume
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box

STORED = np.random.default_rng(8).integers(-1000, 400, (4, 6, 7)).astype(np.int16)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own, which must be empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    gc.collect()
    assert list(folder.iterdir()) == []


def whole(volume: Volume) -> NDArray[np.int16]:
    return volume.read_box(Box(start=np.zeros(3, np.int64), stop=volume.geometry.shape))


def refusal(path: Path, series_uid: str = "") -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        open_volume(path, series_uid)
    assert caught.value.what and caught.value.mend and str(path.parent) not in str(caught.value)
    return caught.value


def study(folder: Path) -> Path:
    write_series(folder / "a", STORED, series_uid="1.2.1")
    write_series(folder / "b", STORED[:3], series_uid="1.2.2")
    return folder


def packed(folder: Path, suffix: str) -> Path:
    archive = folder.with_name(f"{folder.name}{suffix}")
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(archive, f"w:{suffix.rsplit('.', 1)[1].replace('tar', '')}") as tar:
            tar.add(folder, folder.name)
    return archive


def nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(STORED.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return path


# ---------------------------------------------------------------- folders and files


def test_headers_are_read_once_for_all_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = dicom_files.read_header
    monkeypatch.setattr(dicom_files, "read_header", lambda path: read.append(path) or original(path))
    with open_source(study(tmp_path / "study")) as source:
        assert [(series.uid, series.instances) for series in source.series] == [("1.2.1", 4), ("1.2.2", 3)]
        np.testing.assert_array_equal(whole(source.volume("1.2.2")), STORED[:3])
        np.testing.assert_array_equal(whole(source.volume("1.2.1")), STORED)
        with pytest.raises(SeriesError) as caught:
            source.volume()
        assert caught.value.code == "SERIES_AMBIGUOUS"
        with pytest.raises(SeriesError) as caught:
            source.volume("1.2.3")
        assert caught.value.code == "SERIES_NOT_IN_FOLDER"
    assert len(read) == 7
    assert [volume.series_uid for volume in [open_volume(tmp_path / "study", "1.2.2")]] == ["1.2.2"]


def test_a_single_classic_slice_is_too_few(tmp_path: Path) -> None:
    write_series(tmp_path, STORED)
    assert refusal(tmp_path / "002.dcm").code == "SERIES_TOO_FEW"


@pytest.mark.parametrize("name", ["a.dcm", "a.jpg", "a"])
def test_a_file_of_no_format_that_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else " * 30)
    error = refusal(tmp_path / name)
    assert error.code == "FORMAT_UNKNOWN" and ".nii.gz" in error.mend and ".tar.xz" in error.mend


@pytest.mark.parametrize("name", ["none", "none.zip", "none.tar.gz", "none.nii", "none.mha", "none.dcm"])
def test_what_is_not_there(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path / name).code == "SERIES_NOT_FOUND"


def test_a_device_is_no_series() -> None:
    assert refusal(Path("/dev/zero")).code == "FORMAT_UNKNOWN"


def test_formats_without_series_uids(tmp_path: Path) -> None:
    path = nifti(tmp_path / "ct.nii.gz")
    with open_source(path) as source:
        assert [(series.uid, series.instances) for series in source.series] == [("", 1)]
        np.testing.assert_array_equal(whole(source.volume()), STORED)
    error = refusal(path, "1.2.3")
    assert error.code == "SERIES_NOT_IN_FOLDER" and "ct.nii.gz" in error.what


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_nrrd_and_metaimage(tmp_path: Path, suffix: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.GetImageFromArray(STORED), str(tmp_path / f"ct{suffix}"))
    np.testing.assert_array_equal(whole(open_volume(tmp_path / f"ct{suffix}")), STORED)


# ---------------------------------------------------------------- archives


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz", ".tar.bz2"])
def test_an_archive_of_one_series(tmp_path: Path, suffix: str) -> None:
    expected = open_volume(write_series(tmp_path / "ct", STORED))
    archive = packed(tmp_path / "ct", suffix)
    shutil.rmtree(tmp_path / "ct")
    volume = open_volume(archive)
    np.testing.assert_array_equal(whole(volume), STORED)
    np.testing.assert_array_equal(volume.geometry.affine, expected.geometry.affine)


def test_an_archive_of_a_study(tmp_path: Path) -> None:
    archive = packed(study(tmp_path / "study"), ".zip")
    with open_source(archive) as source:
        assert [series.uid for series in source.series] == ["1.2.1", "1.2.2"]
        np.testing.assert_array_equal(whole(source.volume("1.2.2")), STORED[:3])
    error = refusal(archive)
    assert error.code == "SERIES_AMBIGUOUS" and "study.zip" in error.what


def test_what_was_unpacked_stays_as_long_as_a_volume_needs_it(tmp_path: Path, temporary: Path) -> None:
    archive = packed(study(tmp_path / "study"), ".tar")
    source = open_source(archive)
    one, other = source.volume("1.2.1"), source.volume("1.2.2")
    del source
    gc.collect()
    np.testing.assert_array_equal(whole(one), STORED)
    del one
    gc.collect()
    np.testing.assert_array_equal(whole(other), STORED[:3])
    assert len(list(temporary.iterdir())) == 1
    del other
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_source_that_is_closed_takes_its_files_along(tmp_path: Path, temporary: Path) -> None:
    with open_source(packed(write_series(tmp_path / "ct", STORED), ".zip")) as source:
        volume = source.volume()
        assert len(list(temporary.iterdir())) == 1
    assert list(temporary.iterdir()) == []
    with pytest.raises(SeriesError) as caught:
        whole(volume)
    assert caught.value.code == "FILE_UNREADABLE"


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.mhd", "ct.nrrd"])
def test_an_archive_of_one_volume_in_a_file(tmp_path: Path, name: str) -> None:
    if name.startswith("ct.nii"):
        nifti(tmp_path / "in" / name)
    else:
        sitk = pytest.importorskip("SimpleITK")
        (tmp_path / "in").mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(STORED), str(tmp_path / "in" / name))
    (tmp_path / "in" / "README.txt").write_text("a note")
    np.testing.assert_array_equal(whole(open_volume(packed(tmp_path / "in", ".tar.gz"))), STORED)


def test_an_archive_of_several_volumes(tmp_path: Path) -> None:
    nifti(tmp_path / "in" / "a.nii")
    nifti(tmp_path / "in" / "b.nii.gz")
    error = refusal(packed(tmp_path / "in", ".zip"))
    assert error.code == "SERIES_AMBIGUOUS" and "a.nii, b.nii.gz" in error.what


def test_dicom_goes_before_a_volume_made_from_it(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "dicom", STORED)
    nifti(tmp_path / "in" / "mask.nii.gz")
    volume = open_volume(packed(tmp_path / "in", ".zip"))
    assert volume.series_uid == "1.2.3.4"
    np.testing.assert_array_equal(whole(volume), STORED)


def test_an_archive_without_a_series(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "note.txt").write_text("nothing")
    error = refusal(packed(tmp_path / "in", ".zip"))
    assert error.code == "SERIES_EMPTY" and "in.zip" in error.what
    packed(write_series(tmp_path / "ct", STORED), ".zip").rename(tmp_path / "in" / "nested.zip")
    assert refusal(packed(tmp_path / "in", ".tar")).code == "SERIES_EMPTY"


def test_a_damaged_slice_in_an_archive_is_named(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", STORED)
    (tmp_path / "ct" / "004.dcm").write_bytes(b"x" * 10)
    error = refusal(packed(tmp_path / "ct", ".zip"))
    assert error.code == "FILE_UNREADABLE" and "004.dcm" in error.what


def test_the_real_series_as_an_archive(shared: Path, lidc_series: dict[str, Path]) -> None:
    archive = min((shared / "lidc").glob("*.tar.xz"), key=lambda path: path.stat().st_size)
    volume = open_volume(archive)
    expected = open_volume(lidc_series[archive.name.split(".")[0]])
    np.testing.assert_array_equal(volume.geometry.affine, expected.geometry.affine)
    box = Box(start=volume.geometry.shape // 2, stop=volume.geometry.shape // 2 + (100, 100, 20))
    np.testing.assert_array_equal(volume.read_box(box), expected.read_box(box))
