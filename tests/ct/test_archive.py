"""Archives, honest ones and others, as tarfile, zipfile and the tools of the system write them."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import write_series

from noduleserve.ct.archive import ARCHIVE_SUFFIXES, UnpackedArchive
from noduleserve.errors import SeriesError

STORED = np.random.default_rng(8).integers(-1000, 400, (4, 6, 7)).astype(np.int16)
TARS = [suffix for suffix in ARCHIVE_SUFFIXES if suffix != ".zip"]
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    **dict.fromkeys(("gz", "tgz"), gzip.compress),
    **dict.fromkeys(("xz", "txz"), lzma.compress),
    **dict.fromkeys(("bz2", "tbz2"), bz2.compress),
}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own, which must be empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, data in members:
            member.size = len(data) if member.isreg() else member.size
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def zip_of(path: Path, *members: tuple[str, bytes, int]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in members:
            member = zipfile.ZipInfo(name)
            member.external_attr, member.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(member, data)
    return path


def refusal(path: Path, **limits: int) -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        UnpackedArchive(path, **limits)
    error = caught.value
    assert path.name in error.what and error.mend and str(path.parent) not in str(error)
    return error


def contents(path: Path) -> dict[str, bytes]:
    """What an archive unpacks to."""
    unpacked = UnpackedArchive(path)
    try:
        files = [file for file in unpacked.folder.rglob("*") if file.is_file()]
        return {file.relative_to(unpacked.folder).as_posix(): file.read_bytes() for file in files}
    finally:
        unpacked.close()


# ---------------------------------------------------------------- honest archives


@pytest.mark.parametrize("suffix", TARS)
def test_tar_files(tmp_path: Path, suffix: str) -> None:
    data = tar_of(
        (entry("a", tarfile.DIRTYPE), b""), (entry("a/b.dcm"), b"one"), (entry("./" + "c/" * 59 + "c"), b"two")
    )
    path = tmp_path / f"study{suffix.upper() if suffix == '.tgz' else suffix}"
    path.write_bytes(PACKERS[suffix.rsplit(".", 1)[1]](data))
    assert contents(path) == {"a/b.dcm": b"one", "/".join("c" * 60): b"two"}


def test_zip_files(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "study.zip", ("a/", b"", 0), ("a/b.dcm", b"one", 0o644), ("c\\d", b"two", 0))
    assert contents(path) == {"a/b.dcm": b"one", "c/d": b"two"}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_forms_of_tar(tmp_path: Path, form: int) -> None:
    write_series(tmp_path / ("long " * 18) / ("name " * 18), STORED)
    with tarfile.open(tmp_path / "study.tar", "w", format=form) as archive:
        archive.add(tmp_path / ("long " * 18), "study")
    assert [len(data) for data in contents(tmp_path / "study.tar").values()] == [
        path.stat().st_size for path in (tmp_path / ("long " * 18)).rglob("*.dcm")
    ]


@pytest.mark.parametrize("line", ["tar -cSf study.tar in", "tar -cjf study.tar.bz2 in", "zip -qr study.zip in"])
def test_what_the_tools_of_the_system_pack(tmp_path: Path, line: str) -> None:
    tool, _, name, _ = line.split()
    if shutil.which(tool) is None or (".bz2" in name and shutil.which("bzip2") is None):
        pytest.skip(f"{tool} is not installed")
    write_series(tmp_path / "in", STORED)
    (tmp_path / "in" / "hole").write_bytes(b"")
    os.truncate(tmp_path / "in" / "hole", 100_000)
    subprocess.run(line.split(), cwd=tmp_path, check=True)
    expected = {f"in/{file.name}": file.read_bytes() for file in (tmp_path / "in").iterdir()}
    assert contents(tmp_path / name) == expected


def test_hidden_members_are_left_out(tmp_path: Path) -> None:
    names = ["__MACOSX/a/._b", "a/.DS_Store", ".git/config", "a/b"]
    path = zip_of(tmp_path / "study.zip", *((name, b"x", 0) for name in names))
    assert list(contents(path)) == ["a/b"]


def test_nobody_else_may_enter_the_folder(tmp_path: Path) -> None:
    unpacked = UnpackedArchive(zip_of(tmp_path / "study.zip", ("a", b"x", 0o777)))
    assert stat.S_IMODE(unpacked.folder.stat().st_mode) == 0o700
    unpacked.close()
    unpacked.close()
    assert not unpacked.folder.exists()


def test_the_folder_goes_with_the_object(tmp_path: Path) -> None:
    unpacked = UnpackedArchive(zip_of(tmp_path / "study.zip", ("a", b"x", 0)))
    folder = unpacked.folder
    assert folder.exists()
    del unpacked
    assert not folder.exists()


def test_a_child_process_that_ends_leaves_the_folder_alone(tmp_path: Path) -> None:
    unpacked = UnpackedArchive(zip_of(tmp_path / "study.zip", ("a", b"x", 0)))
    child = os.fork()
    if child == 0:
        unpacked.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert (unpacked.folder / "a").exists()
    unpacked.close()


# ---------------------------------------------------------------- unsafe


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a\\..\\x", "C:\\x", "\\x", "a/.."])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_paths_that_lead_out_of_the_archive(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / f"study.{kind}"
    if kind == "tar":
        path.write_bytes(tar_of((entry("fine"), b"x"), (entry(name), b"x")))
    else:
        zip_of(path, ("fine", b"x", 0), (name, b"x", 0))
    before = set(tmp_path.rglob("*"))
    assert refusal(path).code == "ARCHIVE_UNSAFE"
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "fine"),
        (tarfile.LNKTYPE, "fine"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_links_and_devices_in_tar_files(tmp_path: Path, kind: bytes, link: str) -> None:
    path = tmp_path / "study.tar"
    path.write_bytes(tar_of((entry("fine"), b"x"), (entry("folder/bad", kind, link), b"")))
    error = refusal(path)
    assert error.code == "ARCHIVE_UNSAFE" and "(bad)" in error.what


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_zip_files(tmp_path: Path, mode: int) -> None:
    assert refusal(zip_of(tmp_path / "study.zip", ("bad", b"/etc/passwd", mode | 0o777))).code == "ARCHIVE_UNSAFE"


def test_one_path_twice(tmp_path: Path) -> None:
    path = tmp_path / "study.tar"
    path.write_bytes(tar_of((entry("a/b"), b"x"), (entry("./a/b"), b"y")))
    error = refusal(path)
    assert error.code == "ARCHIVE_UNSAFE" and "twice" in error.what


# ---------------------------------------------------------------- too large


@pytest.mark.parametrize("suffix", ARCHIVE_SUFFIXES)
def test_bytes_are_counted_while_they_are_unpacked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb{suffix}"
    if suffix == ".zip":
        zip_of(path, ("a", b"\0" * 600_000, 0), ("b", b"\0" * 600_000, 0))
    else:
        data = tar_of((entry("a"), b"\0" * 600_000), (entry("b"), b"\0" * 600_000))
        path.write_bytes(PACKERS[suffix.rsplit(".", 1)[1]](data))
    error = refusal(path, most_bytes=1_000_000)
    assert error.code == "ARCHIVE_TOO_LARGE" and "bytes" in error.what
    unpacked = UnpackedArchive(path, most_bytes=1_300_000)
    assert (unpacked.folder / "b").stat().st_size == 600_000
    unpacked.close()


def test_what_has_to_be_unpacked_only_to_be_left_out_counts_as_well(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(tar_of((entry(".hidden"), b"\0" * 1_200_000))))
    assert refusal(path, most_bytes=1_000_000).code == "ARCHIVE_TOO_LARGE"


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_members_are_counted(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"study.{kind}"
    names = ["a", "b/", "c", ".d"]
    if kind == "tar":
        path.write_bytes(
            tar_of(*((entry(n, tarfile.DIRTYPE if n[-1] == "/" else tarfile.REGTYPE), b"") for n in names))
        )
    else:
        zip_of(path, *((name, b"", 0) for name in names))
    UnpackedArchive(path, most_members=4).close()
    error = refusal(path, most_members=3)
    assert error.code == "ARCHIVE_TOO_LARGE" and "more than 3 files" in error.what


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_tar_header_that_would_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    header = entry("long", kind)
    header.size = 2**33
    bomb = tmp_path / "bomb.tar.xz"
    with lzma.open(bomb, "wb") as file:
        file.write(tar_of((entry("first"), b"x"))[:1024])
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(8):
            file.write(b"x" * 2**18)
    assert refusal(bomb).code == "ARCHIVE_TOO_LARGE"


def test_what_follows_the_end_mark_counts_as_well(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(tar_of((entry("a"), b"x")) + b"\0" * 3_000_000))
    assert refusal(path, most_bytes=1_000_000).code == "ARCHIVE_TOO_LARGE"


def test_a_temporary_folder_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of(tmp_path / "study.zip", ("a", b"x" * 100, 0))
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("the system has no /dev/full")
    monkeypatch.setattr("noduleserve.ct.archive._Unpacking._target", lambda self, name: _Opens(full))
    error = refusal(path)
    assert error.code == "ARCHIVE_TOO_LARGE" and "room" in error.what


class _Opens:
    """A path that opens a device instead of making a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, mode: str) -> io.BufferedWriter:
        return self._path.open("wb")


# ---------------------------------------------------------------- damaged


@pytest.mark.parametrize("suffix", ARCHIVE_SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"not an archive " * 100, b"\0" * 5000])
def test_what_is_no_archive(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"study{suffix}"
    path.write_bytes(content)
    if content[:1] == b"\0" and suffix == ".tar":  # which is an empty one
        assert contents(path) == {}
    else:
        assert refusal(path).code == "ARCHIVE_UNREADABLE"


@pytest.mark.parametrize("suffix", ARCHIVE_SUFFIXES)
def test_an_archive_that_is_cut_short_anywhere(tmp_path: Path, suffix: str) -> None:
    members = [(f"{number}", np.random.default_rng(number).bytes(700)) for number in range(3)]
    path = tmp_path / f"study{suffix}"
    if suffix == ".zip":
        data = zip_of(path, *((name, content, 0) for name, content in members)).read_bytes()
    else:
        tar = tar_of(*((entry(name), content) for name, content in members))[: 3 * 1536 + 1024]
        data = PACKERS[suffix.rsplit(".", 1)[1]](tar)
    end = 3 * 1536 if suffix == ".tar" else len(data)  # the second of its two end marks may be missing
    for length in range(0, end, 97):
        path.write_bytes(data[:length])
        assert refusal(path).code == "ARCHIVE_UNREADABLE"
    path.write_bytes(data)
    assert contents(path) == dict(members)


@pytest.mark.parametrize("suffix", [suffix for suffix in ARCHIVE_SUFFIXES if suffix != ".tar"])
def test_an_archive_with_a_flipped_bit(tmp_path: Path, suffix: str) -> None:
    content = np.random.default_rng(1).bytes(3000)  # not compressible: most bits are the members' own
    path = tmp_path / f"study{suffix}"
    if suffix == ".zip":
        zip_of(path, ("a", content, 0))
    else:
        path.write_bytes(PACKERS[suffix.rsplit(".", 1)[1]](tar_of((entry("a"), content))))
    damaged = bytearray(path.read_bytes())
    damaged[1500] ^= 4
    path.write_bytes(damaged)
    assert refusal(path).code == "ARCHIVE_UNREADABLE"


def test_a_tar_file_with_a_damaged_header_in_its_middle(tmp_path: Path) -> None:
    data = bytearray(tar_of(*((entry(f"{number}"), b"x" * 100) for number in range(4))))
    data[2 * 1024 + 150] ^= 1  # in the checksum of the third
    path = tmp_path / "study.tar"
    path.write_bytes(data)
    assert refusal(path).code == "ARCHIVE_UNREADABLE"


def test_an_encrypted_zip_file(tmp_path: Path) -> None:
    if shutil.which("zip") is None:
        pytest.skip("zip is not installed")
    (tmp_path / "a.dcm").write_bytes(b"secret")
    subprocess.run(["zip", "-qP", "password", "study.zip", "a.dcm"], cwd=tmp_path, check=True)
    error = refusal(tmp_path / "study.zip")
    assert error.code == "ARCHIVE_UNREADABLE" and "password" in error.mend


def test_a_zip_file_that_says_it_is_encrypted(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "study.zip", ("a", b"x", 0))
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02")
    path.write_bytes(data[:6] + b"\x01" + data[7 : at + 8] + b"\x01" + data[at + 9 :])
    assert refusal(path).code == "ARCHIVE_UNREADABLE"
