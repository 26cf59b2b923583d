"""The encoder of target `embedded` in this process: the very code that Triton runs, from where it lies."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load_engine_module(folder: Path) -> ModuleType:
    """Import engine.py of a nodule_encoder/1, leaving no file behind.

    Args:
        folder: holds engine.py.
    """
    name = f"_noduleserve_engine_of_{folder.resolve()}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, folder / "engine.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        finally:
            sys.dont_write_bytecode = before
    return sys.modules[name]
