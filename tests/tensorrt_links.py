"""A TensorRT that builds without a GPU, put together from two wheels of PyPI: for tests only.

The wheel `tensorrt-cu12-bindings` is NVIDIA's Python API of TensorRT without the library behind it. The wheel
`onnxruntime-ep-nv-tensorrt-rtx-cu12` carries that library's sibling for RTX cards, with the same builder, ONNX parser
and inspector. A folder of links gives the sibling the names that the API asks for, and its place: the API looks for
its libraries beside itself first. The one library that the sibling lacks, of plugins, is a stub with one function.

A plan built so says what TensorRT makes of a graph, but no GPU has seen it, and NVIDIA's own TensorRT would refuse it.
"""

from __future__ import annotations

import struct
from importlib import util
from pathlib import Path

_BINDINGS, _LIBRARIES = "tensorrt_bindings", "onnxruntime_ep_nv_tensorrt_rtx"
_LINKS = {"libnvinfer.so.11": "libtensorrt_rtx.so.1.*", "libnvonnxparser.so.11": "libtensorrt_onnxparser_rtx.so.1.*"}
_STUB = "libnvinfer_plugin.so.11"


def link_tensorrt(folder: Path) -> Path:
    """Make the package `tensorrt_bindings` in a folder, which then belongs on sys.path or PYTHONPATH; returns it.

    Raises:
        LookupError: a wheel that is not installed.
    """
    bindings, libraries = _package(_BINDINGS), _package(_LIBRARIES)
    package = folder / _BINDINGS
    package.mkdir(parents=True)
    for part in bindings.iterdir():
        if part.name != "__pycache__":
            (package / part.name).symlink_to(part)
    for name, pattern in _LINKS.items():
        (package / name).symlink_to(next(libraries.glob(pattern)))
    (package / _STUB).write_bytes(stub_library(_STUB, "initLibNvInferPlugins"))
    return folder


def _package(name: str) -> Path:
    # On sys.path only, without importing it: the bindings load their libraries when they are imported.
    spec = util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"the package {name} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def stub_library(soname: str, function: str) -> bytes:
    """A shared library for x86-64 Linux with one function, which returns 1: two pages, no compiler.

    The first page (read, execute) holds headers, symbols and code, the second (read, write) the table that the
    dynamic linker starts from.
    """
    page = 0x1000
    strings = b"\0" + function.encode() + b"\0" + soname.encode() + b"\0"
    code = b"\xb8\x01\x00\x00\x00\xc3"  # mov eax, 1; ret
    hashes = struct.pack("<5I", 1, 2, 1, 0, 0)  # one bucket with symbol 1, chains of two symbols
    at_hash = 64 + 4 * 56
    at_symbols = at_hash + len(hashes) + 4  # on a multiple of 8
    at_strings = at_symbols + 2 * 24
    at_code = (at_strings + len(strings) + 15) // 16 * 16
    symbol = struct.pack("<IBBHQQ", 1, 0x12, 0, 1, at_code, len(code))  # global function
    dynamic = [(14, 1 + len(function) + 1), (4, at_hash), (5, at_strings), (6, at_symbols), (10, len(strings))]
    dynamic += [(11, 24), (0, 0)]  # DT_SONAME, HASH, STRTAB, SYMTAB, STRSZ, then SYMENT and NULL
    table = b"".join(struct.pack("<QQ", *entry) for entry in dynamic)
    segments = [
        (1, 5, 0, at_code + len(code), page),  # PT_LOAD
        (1, 6, page, len(table), page),  # PT_LOAD
        (2, 6, page, len(table), 8),  # PT_DYNAMIC
        (0x6474E551, 6, 0, 0, 16),  # PT_GNU_STACK: the stack need not be executable
    ]
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 64, 0, 0)
    for kind, flags, at, size, align in segments:
        header += struct.pack("<IIQQQQQQ", kind, flags, at, at, at, size, size, align)
    first = header + hashes + bytes(4) + bytes(24) + symbol + strings
    return (first.ljust(at_code, b"\0") + code).ljust(page, b"\0") + table
