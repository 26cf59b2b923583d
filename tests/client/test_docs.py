"""The Python of docs/python.md runs as it stands, against a server that serves the demo's release."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from noduleserve.client.nodule_client import AsyncNoduleClient, ClientSettings
from noduleserve.demo.command import RELEASE, make_worklist
from noduleserve.release import Release
from noduleserve.server.process import Endpoints, TritonProcess

TEXT = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SCORES = (1, 1, 5, 4)  # numbers between 0 and 1 that each block prints


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("docs")
    make_worklist(folder)
    with TritonProcess(Release.open(RELEASE), Endpoints(grpc=0, http=0, metrics=0)) as process:
        yield process.endpoints.address, folder


@pytest.mark.parametrize(
    ("block", "scores"), [*zip(BLOCKS, SCORES, strict=True)], ids=["one", "errors", "many", "async"]
)
def test_a_block_runs(block: str, scores: int, served: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    address, folder = served
    assert "127.0.0.1:8001" in block and "demo-out" in block
    exec(compile(block.replace("127.0.0.1:8001", address).replace("demo-out", str(folder)), "python.md", "exec"), {})
    printed = capsys.readouterr().out
    assert len([word for word in printed.split() if re.fullmatch(r"0\.\d+", word)]) == scores
    assert ("SERIES_NOT_FOUND" in printed) == ("except SeriesError" in block)


def test_the_table_of_settings_is_whole_and_right() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| (.*?) \|", TEXT, re.MULTILINE))
    assert rows.pop("setting") == "default"
    assert rows.keys() == ClientSettings.__annotations__.keys()
    options = dataclasses.asdict(AsyncNoduleClient("a:1")._engine.options)
    units = {"deadline": "{:g} s", "server_wait": "{:g} s", "transport": "`{}`", "priority": "`{}`"}
    for name, default in rows.items():
        value = options[name] / 2**20 if name == "read_ahead" else options[name]
        assert units.get(name, "{:g} MiB" if name == "read_ahead" else "{}").format(value) == default
