"""docs/journal.md is enough to read a journal: its own reader, which knows nothing of noduleserve, reads a real one."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

from outcome_making import key, parked, run, scored

from noduleserve.journal.contents import Contents
from noduleserve.journal.journal import Journal

DOCS = Path(__file__).parents[2] / "docs/journal.md"


def reader() -> str:
    _, _, rest = DOCS.read_text().partition("### A reader in twenty lines")
    return rest.split("```python\n")[1].split("```")[0]


def test_the_reader_of_the_specification_reads_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "night.journal"
    record = scored(1)
    with Journal.open(path) as journal:
        journal.append_all([run(3), parked(1), record, parked(2)])
    script = tmp_path / "reader.py"
    script.write_text(
        reader() + f"\nfound = outcomes({str(path)!r})\nprint(sorted(found))\n"
        f"score = found[{key(1).text!r}]['score']\nprint(array(score['raw']), array(score['calibrated']))\n"
        f"print(found[{key(2).text!r}]['error_code'])\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", script], capture_output=True, text=True, check=True)
    keys, arrays, code = done.stdout.splitlines()
    assert record.outcome.score is not None
    assert keys == str(sorted([key(1).text, key(2).text]))
    assert arrays == f"{tuple(record.outcome.score.raw.tolist())} (nan, nan)"
    assert code == "CENTER_OUTSIDE"


def test_memory_is_what_the_specification_says(tmp_path: Path) -> None:
    path, count = tmp_path / "night.journal", 6000
    with Journal.open(path) as journal:
        journal.append_all(parked(number) for number in range(count))
    tracemalloc.start()
    try:
        with Contents.open(path) as contents:
            held, _ = tracemalloc.get_traced_memory()
            assert contents.count == count
    finally:
        tracemalloc.stop()
    assert held < 250 * count
