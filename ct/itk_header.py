"""The text header of a NRRD or MetaImage file: what it must say before SimpleITK may read the voxels.

SimpleITK takes much for granted that a header leaves open: a file without position lies at the origin, an
unknown space is LPS, a negative size is a large one, a slope is passed over. Here such a header is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from noduleserve.errors import SeriesError

_LONGEST = 2**20  # bytes of a header
_MOST_FIELDS = 10_000
_SPACES = {"left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las"}
_AGAIN = "Convert the series again, to a single .nrrd or .mha file."


@dataclass(frozen=True)
class ItkHeader:
    """A checked header.

    Attributes:
        kind: "NrrdImageIO" or "MetaImageIO", the reader of ITK that understands it.
        shape: voxels along the stored axes, fastest first.
        raw: whether voxels are stored as they are, neither compressed nor as text.
        data: the file with the voxels.
        data_at: bytes before them in that file.
    """

    kind: str
    shape: tuple[int, ...]
    raw: bool
    data: Path
    data_at: int


def read_itk_header(path: Path) -> ItkHeader:
    """Read and check the header of a .nrrd, .nhdr, .mha or .mhd file.

    Raises:
        SeriesError: SERIES_NOT_FOUND, ITK_UNREADABLE, ITK_NOT_3D, ITK_UNITS, ITK_NO_POSITION, ITK_DATA_MISSING,
            ITK_DATA_FILES, NOT_HOUNSFIELD (numbers that must be mapped to others, which SimpleITK does not do).
    """
    try:
        with path.open("rb") as file:
            head = file.read(_LONGEST)
    except FileNotFoundError as error:
        raise SeriesError(
            "SERIES_NOT_FOUND",
            f"There is no file {path.name}.",
            "Check image_path; where relative, it starts at the worklist's folder or at the root given.",
        ) from error
    except (OSError, ValueError) as error:
        raise unreadable(path, "it cannot be opened") from error
    return _nrrd(path, head) if head.startswith(b"NRRD") else _meta(path, head)


def unreadable(path: Path, why: str) -> SeriesError:
    """The error of a file that is damaged, or not of its format."""
    return SeriesError("ITK_UNREADABLE", f"{path.name} cannot be read as NRRD or MetaImage: {why}.", _AGAIN)


def _nrrd(path: Path, head: bytes) -> ItkHeader:
    lines = re.split(rb"\r?\n", head, maxsplit=_MOST_FIELDS)
    fields: dict[str, str] = {}
    at = 0
    for line in lines[1:]:
        if not line:
            break
        name, colon, value = line.decode("latin-1").partition(":")
        if not line.startswith(b"#") and colon and not value.startswith("="):  # key:=value is a remark
            _add(fields, name.lower().replace(" ", ""), value, path)
    end = re.search(rb"\r?\n\r?\n", head)
    at = end.end() if end else len(head)
    if fields.get("dimension") != "3":
        raise _not_3d(path, f"its dimension is {fields.get('dimension') or 'not given'}")
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", "") + fields.get("units", "")))
    if units - {"mm", ""}:
        raise _units(path)
    _check_nrrd_position(path, fields)
    if {"oldmin", "oldmax"} & set(fields):
        raise _mapped(path)
    local = "datafile" not in fields
    return ItkHeader(
        kind="NrrdImageIO",
        shape=_sizes(path, fields.get("sizes", "")),
        raw=fields.get("encoding", "").lower() == "raw",
        data=path if local else _data_file(path, fields["datafile"]),
        data_at=at if local else 0,
    )


def _check_nrrd_position(path: Path, fields: dict[str, str]) -> None:
    if fields.get("space", "").lower() not in _SPACES:
        raise _no_position(path, "its space is not given as LPS, RAS or LAS")
    for name, count in (("spacedirections", 9), ("spaceorigin", 3)):
        numbers = re.findall(r"[^\s(),]+", fields.get(name, ""))
        if len(numbers) != count or not all(map(_finite, numbers)):
            raise _no_position(path, "space directions or space origin is missing or not made of numbers")


def _meta(path: Path, head: bytes) -> ItkHeader:
    fields: dict[str, str] = {}
    at = 0
    while "elementdatafile" not in fields:
        end = head.find(b"\n", at)
        line = head[at : end if end >= 0 else len(head)].decode("latin-1").rstrip("\r")
        name, equals, value = line.partition("=")
        if (not equals and line.strip()) or len(fields) > _MOST_FIELDS:
            raise unreadable(path, "its header is damaged")
        if equals:
            _add(fields, name.strip().lower(), value, path)
        if end < 0:
            at = len(head)
            break
        at = end + 1
    if "elementdatafile" not in fields or "ndims" not in fields:
        raise unreadable(path, "its header is incomplete")
    channels = fields.get("elementnumberofchannels", "1")
    if fields["ndims"] != "3" or channels != "1":
        raise _not_3d(path, f"it has {fields['ndims'][:20]} axes and {channels[:20]} channels")
    _check_meta_numbers(path, fields)
    name = fields["elementdatafile"]
    local = name.lower() == "local"
    skipped = fields.get("headersize", "0")
    return ItkHeader(
        kind="MetaImageIO",
        shape=_sizes(path, fields.get("dimsize", "")),
        raw=fields.get("compresseddata", "false").lower() != "true" and fields.get("binarydata", "").lower() == "true",
        data=path if local else _data_file(path, name),
        data_at=at if local else (int(skipped) if skipped.isascii() and skipped.isdigit() else 0),
    )


def _check_meta_numbers(path: Path, fields: dict[str, str]) -> None:
    if fields.get("distanceunits", "mm").lower() not in ("mm", "?", ""):
        raise _units(path)
    origin = next((fields[name] for name in ("offset", "position", "origin") if name in fields), "").split()
    spacing = fields.get("elementspacing", "").split()
    if len(origin) != 3 or len(spacing) != 3 or not all(map(_finite, origin + spacing)):
        raise _no_position(path, "Offset or ElementSpacing is missing or not made of three numbers")
    for name, neutral in (("elementtointensityfunctionslope", 1.0), ("elementtointensityfunctionoffset", 0.0)):
        value = fields.get(name, str(neutral))
        if not _finite(value) or float(value) != neutral:
            raise _mapped(path)


def _add(fields: dict[str, str], name: str, value: str, path: Path) -> None:
    if name in fields:
        raise unreadable(path, "its header has a field twice")
    fields[name] = value.strip()


def _sizes(path: Path, text: str) -> tuple[int, ...]:
    words = text.split()
    if len(words) != 3 or not all(re.fullmatch(r"[0-9]{1,15}", word) and int(word) > 0 for word in words):
        raise _not_3d(path, "its sizes are not three whole numbers above 0")
    return tuple(int(word) for word in words)


def _data_file(path: Path, name: str) -> Path:
    """The one file of voxels that a header may name: in its own folder, or below it."""
    inside = PurePosixPath(name)
    listed = name.upper().split()[:1] == ["LIST"] or "%" in name
    if listed or not name or "\\" in name or ":" in name or inside.is_absolute() or ".." in inside.parts:
        raise SeriesError(
            "ITK_DATA_FILES",
            f"The header {path.name} names a list of files, or a file outside its own folder.",
            _AGAIN,
        )
    file = path.parent / inside
    try:
        there = file.is_file()
    except (OSError, ValueError):
        there = False
    if not there:
        raise SeriesError(
            "ITK_DATA_MISSING",
            f"The file of voxels that the header {path.name} names is not there.",
            "Keep header and voxels in one folder, or convert the series to a single .nrrd or .mha file.",
        )
    return file


def _finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _not_3d(path: Path, why: str) -> SeriesError:
    return SeriesError("ITK_NOT_3D", f"{path.name} is no volume of three axes: {why}.", "Give one volume, one number.")


def _units(path: Path) -> SeriesError:
    return SeriesError("ITK_UNITS", f"{path.name} does not measure in millimetres.", "Convert the series again, in mm.")


def _no_position(path: Path, why: str) -> SeriesError:
    mend = "Convert the series from DICOM again with a tool that keeps the position."
    return SeriesError("ITK_NO_POSITION", f"{path.name} does not say where its voxels lie in the patient: {why}.", mend)


def _mapped(path: Path) -> SeriesError:
    return SeriesError(
        "NOT_HOUNSFIELD",
        f"The stored numbers of {path.name} must be mapped to others before they are Hounsfield units.",
        "Convert the series again so that Hounsfield units are stored as they are.",
    )
