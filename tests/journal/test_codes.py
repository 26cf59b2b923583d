"""Every code of a journal stands in the table, and every one of the table is raised."""

from __future__ import annotations

import re
from pathlib import Path

from noduleserve.journal.codes import JOURNAL_CODES

ROOM = Path(__file__).parents[2] / "journal"


def test_the_table_has_the_codes_that_are_raised() -> None:
    sources = [file.read_text() for file in ROOM.glob("*.py") if file.name != "codes.py"]
    raised = {code for source in sources for code in re.findall(r'"(JOURNAL_[A-Z_]+)"', source)}
    assert raised == JOURNAL_CODES.keys()


def test_the_specification_names_every_code() -> None:
    text = (ROOM.parent / "docs/journal.md").read_text()
    assert [code for code in JOURNAL_CODES if code not in text] == []
