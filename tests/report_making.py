"""Outcomes made up for reports, and a page read back with a parser that insists on sound HTML."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from noduleserve.results.outcome import Outcome, ReleaseInfo, Score
from noduleserve.results.report.page import write_report
from noduleserve.worklist.table import Nodule

LABELS = ("margin.smooth", "margin.spiculated", "wall contact.attached", "wall contact.not attached")
INFO = ReleaseInfo("rel-7", 3, True, LABELS)
WHEN = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script>\"&'><img src=\"http://evil.example/x.png\">"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Node:
    """An element, with just enough of a query language for these tests."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.children: list[Node | str] = []

    def all(self, tag: str = "", cls: str = "", **attributes: str) -> list[Node]:
        found = []
        for child in self.children:
            if isinstance(child, str):
                continue
            classes = child.attributes.get("class", "").split()
            fits = (not tag or child.tag == tag) and (not cls or cls in classes)
            if fits and all(child.attributes.get(name) == value for name, value in attributes.items()):
                found.append(child)
            found += child.all(tag, cls, **attributes)
        return found

    def one(self, tag: str = "", cls: str = "", **attributes: str) -> Node:
        (node,) = self.all(tag, cls, **attributes)
        return node

    @property
    def text(self) -> str:
        parts = (child if isinstance(child, str) else f" {child.text} " for child in self.children)
        return " ".join("".join(parts).split())


class Page(HTMLParser):
    """Builds the tree and insists that every element is closed where it should be."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.root = Node("", {})
        self._open = [self.root]
        self.feed(source)
        self.close()
        assert len(self._open) == 1, f"never closed: {[node.tag for node in self._open[1:]]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of {tag} is there twice"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(node)
        if tag not in VOID:
            self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def nodule(number: int, pid: str = "", **further: str) -> Nodule:
    pid = pid or f"P{number:03d}"
    columns = {"pid": pid, "nodule_id": f"n{number}", "image_path": f"series/{number}"}
    columns |= {"coordX": "1.5", "coordY": "-2.25", "coordZ": "30", **further}
    return Nodule(number, columns, pid, f"n{number}", Path("/secret") / str(number), (1.5, -2.25, 30.0))


def scored(number: int, calibrated: bool = True, views: bool = True, pid: str = "", **further: str) -> Outcome:
    rng = np.random.default_rng(number)
    raw = rng.uniform(0.01, 0.99, 3).astype(np.float32)
    fitted = (raw**2).astype(np.float32) if calibrated else np.full(3, np.nan, np.float32)
    pairs = rng.dirichlet((1, 1), 2).astype(np.float32)
    attention = rng.dirichlet(np.ones(9), 3).astype(np.float32)
    mean = float((fitted if calibrated else raw).mean())
    embedding = np.zeros((3, 256), np.float32)
    score = Score(mean, raw, fitted, pairs.ravel(), embedding, attention, "rel-7")
    # Beyond 0..1 a little, as the spline overshoots.
    pixels = rng.uniform(-0.05, 1.05, (9, 50, 50)).astype(np.float32) if views else None
    times = {"open": 0.25, "box": 0.0125, "server": 1.5}
    return Outcome(nodule(number, pid, **further), score, seconds=times, views=pixels)


def failed(number: int, error: str, code: str = "BOX_SHORT", pid: str = "") -> Outcome:
    return Outcome(nodule(number, pid), None, code, error, {"box": 0.5})


def render(tmp_path: Path, outcomes: Sequence[Outcome], info: ReleaseInfo = INFO, **options: object) -> Node:
    path = tmp_path / "report.html"
    write_report(path, outcomes, info, when=WHEN, **options)  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    return Page(path.read_text(encoding="utf-8")).root


def summary_rows(root: Node) -> list[list[str]]:
    table = root.one("table", cls="summary").one("tbody")
    return [[cell.text for cell in row.children if isinstance(cell, Node)] for row in table.all("tr")]


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def score_of(outcome: Outcome) -> Score:
    assert outcome.score is not None
    return outcome.score
