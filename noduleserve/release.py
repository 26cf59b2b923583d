"""The release: one immutable folder, and the proof that it is still what was exported.

    RELEASE/MANIFEST.json                    everything that is to be known of the release
    RELEASE/model_repository/<model>/...     what Triton serves
    RELEASE/model_repository/<model>/1/RELEASE   the release id, in each model
    RELEASE/engine/encoder.onnx              target `tensorrt` only: what a plan is built from
    RELEASE/parity.json, report.html, proof.npz  the evidence: how far the release is from its checkpoint

The release id is the SHA-256 of the content: of the manifest's identity, written as JSON with sorted keys.  Identity
is everything but the id itself, the RELEASE files that hold it, and what may differ between two exports of the same
inputs: the time, the versions of the tools, and the evidence, whose last digits are the machine's.  So the same inputs
give the same id.  The manifest's `files` holds the SHA-256 of every file of the content and `evidence` those of the
evidence; `seal` is the SHA-256 of the manifest without it.  So no byte of a release can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import ReleaseError

MANIFEST = "MANIFEST.json"
REPOSITORY = "model_repository"
STAMP = "RELEASE"
FORMAT = 2
EVIDENCE = ("parity.json", "proof.npz", "report.html")
_NOT_IDENTITY = ("release_id", "seal", "created", "tools", "parity", "evidence")
# A Triton that was started on the folder itself leaves byte code beside its model.py. `noduleserve serve` never runs
# it: it serves links to the files that the manifest lists.
_MADE_BY_PYTHON = "__pycache__"


@dataclass(frozen=True)
class Release:
    """A release on disk whose every byte has been checked against its manifest.

    Attributes:
        folder: where it lies.
        manifest: MANIFEST.json.
    """

    folder: Path
    manifest: dict[str, Any]

    @property
    def id(self) -> str:
        """The release id."""
        return str(self.manifest["release_id"])

    @property
    def repository(self) -> Path:
        """The model repository that Triton serves."""
        return self.folder / REPOSITORY

    @classmethod
    def open(cls, folder: Path) -> Release:
        """Read a release and check every file of it.

        Raises:
            ReleaseError: RELEASE_NOT_FOUND, RELEASE_FORMAT, RELEASE_EDITED.
        """
        manifest = _read_manifest(folder)
        if seal_of(manifest) != manifest.get("seal"):
            raise _edited(f"{MANIFEST} does not hash to its seal")
        if release_id(manifest) != manifest.get("release_id"):
            raise _edited(f"{MANIFEST} does not hash to its release id")
        if not isinstance(manifest.get("files"), dict) or not isinstance(manifest.get("evidence"), dict):
            raise _edited(f"{MANIFEST} lists no files")
        differing = _differing_files(folder, manifest)
        if differing:
            raise _edited("; ".join(differing[:5]) + ("; ..." if len(differing) > 5 else ""))
        return cls(folder, manifest)


def seal(folder: Path, manifest: dict[str, Any]) -> Release:
    """Turn a folder with a complete model repository into a release: hash, stamp, write the manifest.

    Args:
        folder: holds `model_repository/` and whatever else belongs to the release.
        manifest: all of the manifest but what is computed here: format, files, evidence, release_id, seal.
    """
    hashes = {p: _sha256(folder / p) for p in _content(folder) if (folder / p).is_file()}
    manifest = manifest | {
        "format": FORMAT,
        "files": {p: h for p, h in hashes.items() if p not in EVIDENCE},
        "evidence": {p: h for p, h in hashes.items() if p in EVIDENCE},
    }
    manifest["release_id"] = release_id(manifest)
    manifest["seal"] = seal_of(manifest)
    for stamp in _stamps(manifest["files"]):
        (folder / stamp).parent.mkdir(exist_ok=True)
        (folder / stamp).write_text(manifest["release_id"])
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return Release.open(folder)


def release_id(manifest: dict[str, Any]) -> str:
    """The id that a manifest's content has: "ns-" and 20 hexadecimal digits of its SHA-256."""
    return "ns-" + _hash_without(manifest, _NOT_IDENTITY)[:20]


def seal_of(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its seal."""
    return _hash_without(manifest, ("seal",))


def _hash_without(manifest: dict[str, Any], keys: Iterable[str]) -> str:
    rest = {key: value for key, value in manifest.items() if key not in keys}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise ReleaseError(
            "RELEASE_NOT_FOUND",
            f"There is no {MANIFEST} in {folder}.",
            "Name a folder that `noduleserve export` wrote.",
        ) from None
    except ValueError as error:
        raise _edited(f"{MANIFEST} is not JSON ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise ReleaseError(
            "RELEASE_FORMAT",
            f"The release's format is {found!r}; this noduleserve reads format {FORMAT}.",
            "Serve it with the noduleserve that wrote it, or export it again.",
        )
    return manifest


def _content(folder: Path) -> list[str]:
    """Paths, relative and sorted, of what a release holds, its manifest left out.

    Files, and what a release never holds: links, and folders with nothing in them.
    """
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != _MADE_BY_PYTHON]
        links = [name for name in folders if Path(here, name).is_symlink()]
        empty = [] if folders or files or here == str(folder) else [Path(here)]
        found += [Path(here, name) for name in (*files, *links)] + empty
    paths = (path.relative_to(folder) for path in found)
    return sorted(path.as_posix() for path in paths if path != Path(MANIFEST))


def _stamps(files: Iterable[str]) -> list[str]:
    """Paths of the RELEASE files: one in each model."""
    paths = (PurePosixPath(file).parts for file in files)
    models = sorted({parts[1] for parts in paths if parts[0] == REPOSITORY and len(parts) > 2})
    return [f"{REPOSITORY}/{model}/1/{STAMP}" for model in models]


def _differing_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    stamp_sha256 = hashlib.sha256(manifest["release_id"].encode()).hexdigest()
    expected = manifest["files"] | manifest["evidence"] | dict.fromkeys(_stamps(manifest["files"]), stamp_sha256)
    present = set(_content(folder))
    differing = [f"{path} is missing" for path in sorted(set(expected) - present)]
    differing += [f"{path} was added" for path in sorted(present - set(expected))]
    for path in sorted(present & set(expected)):
        if (folder / path).is_symlink():
            differing.append(f"{path} is a link")
        elif not (folder / path).is_file() or _sha256(folder / path) != expected[path]:
            differing.append(f"{path} was changed")
    return differing


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _edited(how: str) -> ReleaseError:
    return ReleaseError(
        "RELEASE_EDITED",
        f"The release is not what was exported: {how}.",
        "Releases are never edited: copy it again from where it was exported, or export a new one.",
    )
