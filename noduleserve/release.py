"""The release: one immutable folder, and the proof that it is still what was exported.

    RELEASE/MANIFEST.json                    everything that is to be known of the release
    RELEASE/parity.json                      how far the exported graph is from the checkpoint, figure by figure
    RELEASE/model_repository/<model>/...     what Triton serves
    RELEASE/model_repository/<model>/1/RELEASE   the release id, in each model

The release id is the SHA-256 of the content: of the manifest without `release_id`, `created` and the RELEASE files'
own hashes, written as JSON with sorted keys.  Since the manifest holds the SHA-256 of every other file, no byte of a
release can change without the id changing; the RELEASE files must hold the id itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import ReleaseError

MANIFEST = "MANIFEST.json"
REPOSITORY = "model_repository"
STAMP = "RELEASE"
FORMAT = 1
_NOT_IDENTITY = ("release_id", "created")
_MADE_BY_PYTHON = "__pycache__"  # serving a release may leave byte code beside its model.py; it is not content


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
        if release_id(manifest) != manifest.get("release_id"):
            raise _edited(f"{MANIFEST} does not hash to its release id")
        if not isinstance(manifest.get("files"), dict):
            raise _edited(f"{MANIFEST} lists no files")
        differing = _differing_files(folder, manifest)
        if differing:
            raise _edited("; ".join(differing[:5]) + ("; ..." if len(differing) > 5 else ""))
        return cls(folder, manifest)


def seal(folder: Path, manifest: dict[str, Any]) -> Release:
    """Turn a folder with a complete model repository into a release: hash, stamp, write the manifest.

    Args:
        folder: holds `model_repository/` and whatever else belongs to the release.
        manifest: all of the manifest but `files` and `release_id`.
    """
    manifest = manifest | {"format": FORMAT, "files": {p: _sha256(folder / p) for p in _content(folder)}}
    manifest["release_id"] = release_id(manifest)
    for stamp in _stamps(manifest["files"]):
        (folder / stamp).write_text(manifest["release_id"])
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return Release.open(folder)


def release_id(manifest: dict[str, Any]) -> str:
    """The id that a manifest's content has: "ns-" and 20 hexadecimal digits of its SHA-256."""
    identity = {key: value for key, value in manifest.items() if key not in _NOT_IDENTITY}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return "ns-" + hashlib.sha256(text.encode()).hexdigest()[:20]


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
    """Paths, relative and sorted, of the files of a release, its manifest left out."""
    paths = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return sorted(p.as_posix() for p in paths if p != Path(MANIFEST) and _MADE_BY_PYTHON not in p.parts)


def _stamps(files: Iterable[str]) -> list[str]:
    """Paths of the RELEASE files: one in each model."""
    paths = (PurePosixPath(file).parts for file in files)
    models = sorted({parts[1] for parts in paths if parts[0] == REPOSITORY and len(parts) > 2})
    return [f"{REPOSITORY}/{model}/1/{STAMP}" for model in models]


def _differing_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    stamp_sha256 = hashlib.sha256(manifest["release_id"].encode()).hexdigest()
    expected = manifest["files"] | dict.fromkeys(_stamps(manifest["files"]), stamp_sha256)
    present = set(_content(folder))
    differing = [f"{path} is missing" for path in sorted(set(expected) - present)]
    differing += [f"{path} was added" for path in sorted(present - set(expected))]
    return differing + [
        f"{path} was changed" for path in sorted(present & set(expected)) if _sha256(folder / path) != expected[path]
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _edited(how: str) -> ReleaseError:
    return ReleaseError(
        "RELEASE_EDITED",
        f"The release is not what was exported: {how}.",
        "Releases are never edited: copy it again from where it was exported, or export a new one.",
    )
