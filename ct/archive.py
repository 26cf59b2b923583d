"""Archives of CT series (.zip, .tar, .tar.gz, .tar.xz, .tar.bz2), unpacked into a private temporary folder.

Whoever packed an archive may have been careless or hostile. So nothing is written outside that folder, nothing but
plain files is made in it, bytes are counted while they are unpacked, and an archive that is not whole is refused.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from noduleserve.errors import SeriesError

MOST_MEMBERS = 100_000
MOST_BYTES = 16 * 2**30  # unpacked; a study of whole-body series at 0.5 mm takes a tenth of it
_MOST_HEADER_BYTES = 2**20  # of one member of a tar file
_CHUNK = 2**18

_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".tar": lambda path: path.open("rb"),
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
    ".tar.bz2": bz2.open,
    ".tbz2": bz2.open,
}
ARCHIVE_SUFFIXES = (".zip", *_OPENERS)

# What the libraries let through on damaged archives; zipfile reports encryption and unknown methods as the last two.
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, OverflowError),
    *(RuntimeError, NotImplementedError),
)


class UnpackedArchive:
    """The files of an archive in a folder that nobody else can enter, and that goes when this object does.

    Attributes:
        folder: with the files, in subfolders of their own names' making; hidden files are left out.
    """

    folder: Path

    def __init__(self, path: Path, *, most_members: int = MOST_MEMBERS, most_bytes: int = MOST_BYTES) -> None:
        """Unpack an archive; TMPDIR says where to.

        Raises:
            SeriesError: ARCHIVE_UNREADABLE (damaged, encrypted), ARCHIVE_UNSAFE (links, devices, paths that lead out
                of it, a path twice), ARCHIVE_TOO_LARGE (members, bytes, room in the temporary folder).
        """
        self.folder = Path(tempfile.mkdtemp(prefix="noduleserve-"))  # mode 0700
        self._finalizer = weakref.finalize(self, _remove, self.folder, os.getpid())
        try:
            _Unpacking(path, self.folder, most_members, most_bytes).run()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the folder; a second time does nothing."""
        self._finalizer()


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child that ends leaves its parent's files alone
        shutil.rmtree(folder, ignore_errors=True)


class _Unpacking:
    """One archive on its way into a folder."""

    def __init__(self, path: Path, folder: Path, most_members: int, most_bytes: int) -> None:
        self._path, self._folder = path, folder
        self._most_members, self._most_bytes = most_members, most_bytes
        self._members = self._bytes = 0

    def run(self) -> None:
        try:
            if self._path.name.lower().endswith(".zip"):
                self._unpack_zip()
            else:
                self._unpack_tar()
        except _DAMAGED as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._too_large("needs more room than the temporary folder has") from error
            raise SeriesError(
                "ARCHIVE_UNREADABLE",
                f"{self._path.name} cannot be unpacked ({type(error).__name__}).",
                "Copy or pack the archive again, without a password.",
            ) from error

    def _unpack_zip(self) -> None:
        with zipfile.ZipFile(self._path) as archive:
            for member in archive.infolist():
                kind = stat.S_IFMT(member.external_attr >> 16)
                if member.filename.endswith(("/", "\\")):
                    self._count_member()
                    continue
                if kind not in (0, stat.S_IFREG):
                    raise self._unsafe("a link or a device", member.filename)
                if (target := self._target(member.filename)) is not None:
                    with archive.open(member) as source:  # which asks for a password here
                        self._copy(source, target)

    def _unpack_tar(self) -> None:
        suffix = next(s for s in _OPENERS if self._path.name.lower().endswith(s))
        with _OPENERS[suffix](self._path) as unpacked:
            meter = _Meter(unpacked, lambda: self._too_large("unpacks to too many bytes"))
            # As a stream ("r|"), so that no position is read twice and every byte is counted.
            with tarfile.open(fileobj=meter, mode="r|", bufsize=_CHUNK, tarinfo=_StrictHeader) as archive:
                for member in archive:
                    meter.allow(self._most_bytes)
                    self._unpack_member(archive, member)
                    meter.allow(_MOST_HEADER_BYTES)
            meter.allow(self._most_bytes)
            while meter.read(_CHUNK):  # to the end, where the checksums of gzip and xz are
                pass

    def _unpack_member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.isdir():
            self._count_member()
            return
        if not member.isreg():
            raise self._unsafe("a link or a device", member.name)
        target = self._target(member.name)
        source = archive.extractfile(member)
        if source is not None:
            self._copy(source, target)

    def _target(self, name: str) -> Path | None:
        """Where a member is written; None where it is hidden. Members of one folder stay together."""
        self._count_member()
        parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
        if not parts or name[0] in "/\\" or ".." in parts or re.match("[A-Za-z]:", name) or "\0" in name:
            raise self._unsafe("a path that leads out of it", name)
        if any(part[0] == "." or part == "__MACOSX" for part in parts):
            return None
        target = self._folder.joinpath(*parts)
        if target.exists():
            raise self._unsafe("twice the file", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _copy(self, source: IO[bytes], target: Path | None) -> None:
        """Write a member out, or only read it where there is no target; either way its bytes count."""
        file = target.open("xb") if target is not None else None
        try:
            while data := source.read(_CHUNK):
                self._bytes += len(data)
                if self._bytes > self._most_bytes:
                    raise self._too_large("unpacks to too many bytes")
                if file is not None:
                    file.write(data)
        finally:
            if file is not None:
                file.close()

    def _count_member(self) -> None:
        self._members += 1
        if self._members > self._most_members:
            raise self._too_large(f"holds more than {self._most_members} files")

    def _unsafe(self, what: str, name: str) -> SeriesError:
        base = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
        return SeriesError(
            "ARCHIVE_UNSAFE",
            f"{self._path.name} holds {what} ({base}).",
            "Pack the folder of the series again, with plain files only (for example zip -r).",
        )

    def _too_large(self, what: str) -> SeriesError:
        return SeriesError(
            "ARCHIVE_TOO_LARGE",
            f"{self._path.name} {what}.",
            "Pack one study an archive, or unpack it yourself and give the folder. TMPDIR names the temporary folder.",
        )


class _StrictHeader(tarfile.TarInfo):
    """Takes a tar file that stops before its end mark for damaged; tarfile alone would take it for complete."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _StrictHeader:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end mark
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError("no end mark") from error


class _Meter(io.RawIOBase):
    """A stream that may only be read so far: what a tar header claims to be long is read into memory at once."""

    def __init__(self, stream: Any, refusal: Callable[[], SeriesError]) -> None:
        super().__init__()
        self._stream, self._refusal = stream, refusal
        self._left = _MOST_HEADER_BYTES

    def allow(self, count: int) -> None:
        """So many bytes more may be read, counted from now; the buffer of one chunk comes on top."""
        self._left = count + _CHUNK

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise self._refusal()
        return data
