"""A folder that is written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from noduleserve.errors import ReleaseError


class new_folder:
    """A folder that takes its name when the block ends well, and leaves nothing where it does not.

    Raises:
        ReleaseError: OUT_NOT_EMPTY.
    """

    def __init__(self, out: Path) -> None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ReleaseError(
                "OUT_NOT_EMPTY",
                f"{out} exists and is not an empty folder.",
                "Releases are never edited: name a new folder.",
            )
        self._out = out
        self._made = [p for p in out.absolute().parents if not p.exists()]  # innermost first
        out.parent.mkdir(parents=True, exist_ok=True)
        self._work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))

    def __enter__(self) -> Path:
        self._work.chmod(0o755)
        return self._work

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            if self._out.exists():
                self._out.rmdir()
            self._work.rename(self._out)
            return
        shutil.rmtree(self._work, ignore_errors=True)
        for parent in self._made:
            if parent.exists() and not any(parent.iterdir()):
                parent.rmdir()
