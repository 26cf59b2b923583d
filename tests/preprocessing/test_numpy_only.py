"""preprocessing/ needs numpy and the standard library only, and works copied into a folder beside a model."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from noduleserve import preprocessing
from noduleserve.preprocessing import BadRequest, views_of_request

FOLDER = Path(preprocessing.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))


def imports_of(file: Path) -> list[tuple[int, str]]:
    """(dots, top-level module) of everything that a file imports, also inside its functions."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, (node.module or "").split(".")[0]))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_imports(file: Path) -> None:
    siblings = {f.stem for f in FILES}
    for dots, module in imports_of(file):
        if dots:
            assert dots == 1 and module in siblings, f"{file.name} reaches out of its folder for {module}"
        else:
            assert module == "numpy" or module in sys.stdlib_module_names, f"{file.name} imports {module}"


def test_the_walk_sees_imports() -> None:
    seen = {module for file in FILES for _, module in imports_of(file)}
    assert len(FILES) >= 8
    assert {"numpy", "dataclasses", "geometry"} <= seen


SCRIPT = """
import sys
sys.path[:0] = [{numpy!r}, {copy!r}]
import numpy as np
before = {{name.split(".")[0] for name in sys.modules}}
import preprocessing
assert preprocessing.__file__.startswith({copy!r}), preprocessing.__file__
request = np.load({request!r})
np.save({views!r}, preprocessing.views_of_request(*[request[k] for k in "abcde"]))
try:
    preprocessing.views_of_request(*[request[k] for k in "abcd"], np.full(3, np.nan))
except preprocessing.BadRequest as refusal:
    print(refusal)
tops = {{name.split(".")[0] for name in sys.modules}} - before
print(sorted(tops - set(sys.stdlib_module_names)))
"""


def test_it_works_alone_in_a_folder(tmp_path: Path) -> None:
    copy, numpy = tmp_path / "1", tmp_path / "numpy_only"
    (copy / "preprocessing").mkdir(parents=True)
    for file in FILES:
        shutil.copyfile(file, copy / "preprocessing" / file.relative_to(FOLDER))
    numpy.mkdir()
    site = Path(np.__file__).parents[1]
    for package in [site / "numpy", *site.glob("numpy.libs")]:
        (numpy / package.name).symlink_to(package)
    random = np.random.default_rng(3)
    affine = np.array([[0.8, 0.6, 0, -9], [-0.6, 0.8, 0, 2], [0, 0, 2.5, 70], [0, 0, 0, 1]])
    voxels = random.integers(-1000, 500, (20, 30, 40)).astype(np.int16)
    request = (voxels, np.zeros(3, np.int32), np.array([40, 30, 20], np.int32), affine, (affine @ (20, 15, 9, 1))[:3])
    np.savez(tmp_path / "request.npz", **dict(zip("abcde", request, strict=True)))
    script = SCRIPT.format(
        numpy=str(numpy), copy=str(copy), request=str(tmp_path / "request.npz"), views=str(tmp_path / "views.npy")
    )
    # -I and -S: neither this folder, nor PYTHONPATH, nor site-packages are on the path.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refusal, packages = done.stdout.splitlines()
    assert packages == "['preprocessing']"
    np.testing.assert_array_equal(np.load(tmp_path / "views.npy"), views_of_request(*request))
    with pytest.raises(BadRequest) as caught:
        views_of_request(*request[:4], np.full(3, np.nan))
    assert refusal == str(caught.value)
