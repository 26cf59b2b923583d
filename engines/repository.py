"""The model repository that Triton serves: the release's files, and the plan that belongs to this machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from noduleserve.errors import EngineError
from noduleserve.release import REPOSITORY, STAMP, Release

from .store import PLAN


def compose_repository(
    release: Release,
    out: Path,
    plan: Path | None = None,
    *,
    copy: bool = False,
    changed: Mapping[str, str] | None = None,
) -> Path:
    """Write a model repository of exactly the files that a release's manifest lists; returns it.

    Args:
        release: of any target.
        out: the folder to make.
        plan: the encoder's plan, on target `tensorrt`.
        copy: put copies instead of links, so that the folder can be moved into a container.
        changed: texts that stand in the place of files of the release, by their path within the repository.

    Raises:
        EngineError: REPOSITORY_NOT_EMPTY.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EngineError("REPOSITORY_NOT_EMPTY", f"{out} exists and is not an empty folder.", "Name a new folder.")
    files = {PurePosixPath(path).relative_to(REPOSITORY) for path in release.manifest["files"] if _of_model(path)}
    files |= {PurePosixPath(model, "1", STAMP) for model in {path.parts[0] for path in files}}
    for path in sorted(files):
        if changed and path.as_posix() in changed:
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_text(changed[path.as_posix()])
        else:
            _put(release.repository / path, out / path, copy=copy)
    if plan:
        _put(plan, out / "nodule_encoder" / "1" / PLAN, copy=copy)
    return out


def _of_model(path: str) -> bool:
    return PurePosixPath(path).parts[0] == REPOSITORY


def _put(source: Path, to: Path, *, copy: bool) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if copy:
        shutil.copyfile(source, to)
    else:
        to.symlink_to(source.resolve())
