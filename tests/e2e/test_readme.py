"""The README's Python runs as it stands, against a server that serves the demo's release."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from noduleserve.demo.command import RELEASE, make_worklist
from noduleserve.release import Release
from noduleserve.server.process import Endpoints, TritonProcess

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("readme")
    make_worklist(folder)
    with TritonProcess(Release.open(RELEASE), Endpoints(grpc=0, http=0, metrics=0)) as process:
        yield process.endpoints.address, folder


def test_there_is_python_in_the_readme() -> None:
    assert len(BLOCKS) == 2


@pytest.mark.parametrize("block", BLOCKS, ids=["any client", "library"])
def test_a_block_runs(block: str, served: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    address, folder = served
    assert "127.0.0.1:8001" in block and "demo-out" in block
    exec(compile(block.replace("127.0.0.1:8001", address).replace("demo-out", str(folder)), "README.md", "exec"), {})
    printed = capsys.readouterr().out.split()
    numbers = [float(word) for word in printed if re.fullmatch(r"0\.\d+", word)]
    assert numbers and all(0 < number < 1 for number in numbers)
