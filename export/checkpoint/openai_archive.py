"""OpenAI's CLIP weights, published as TorchScript archives, read without running what is in them.

`torch.jit.load` would do, but is on its way out, and hands a program over together with the weights. An archive is a
zip file: data.pkl says which tensor hangs where, data/N hold the numbers. The pickle is opened with nothing allowed in
it but the making of tensors; the program's modules become plain namespaces.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import torch

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


def is_archive(file: Path) -> bool:
    """Whether a file is a TorchScript archive rather than one of `torch.save`."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(PurePosixPath(name).name == "constants.pkl" for name in archive.namelist())


def read_archive(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of an archive by their names in the model, e.g. `visual.conv1.weight`, in the archive's types.

    Raises:
        pickle.UnpicklingError: there is more in it than modules and tensors.
        ValueError, KeyError, EOFError, zipfile.BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        root = next(n for n in archive.namelist() if PurePosixPath(n).name == "constants.pkl").rpartition("/")[0]
        try:
            model = _Unpickler(archive, f"{root}/" if root else "").load()
        except (TypeError, AttributeError, IndexError, RecursionError) as error:  # what a broken pickle may raise
            raise ValueError(f"its list of tensors is broken ({error})") from None
    if not isinstance(model, _Module):
        raise ValueError("it holds no model")
    return dict(_tensors(model, ""))


class _Module:
    """Stands for any module of the program: its attributes, and no behaviour."""

    def __setstate__(self, attributes: Any) -> None:
        if not isinstance(attributes, dict):
            raise pickle.UnpicklingError("a module's attributes are not a dictionary")
        self.__dict__.update(attributes)


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        kind, dtype, name, _, _ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not str(name).isdigit():
            raise pickle.UnpicklingError("it refers to something else than a tensor's numbers")
        return torch.frombuffer(bytearray(self._archive.read(f"{self._root}data/{name}")), dtype=dtype)


def _tensor(storage: torch.Tensor, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    try:
        return torch.as_strided(storage, shape, stride, offset)
    except (RuntimeError, TypeError) as error:
        raise pickle.UnpicklingError(f"a tensor does not fit its numbers ({str(error).splitlines()[0]})") from None


def _tensors(module: _Module, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, torch.Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
