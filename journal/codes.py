"""Every code that opening, reading or writing a journal may end in, as a literal table.

Programs match on codes; they stay the same over releases.
"""

from __future__ import annotations

# code -> what it stands for; the run does not begin, or breaks off, and can be taken up again
JOURNAL_CODES: dict[str, str] = {
    "JOURNAL_IN_USE": "Another run is writing the journal.",
    "JOURNAL_NOT_A_JOURNAL": "The file is something else than a journal, and is left as it is.",
    "JOURNAL_VERSION": "The journal was written by a later noduleserve than this one.",
    "JOURNAL_DAMAGED": "A line of the journal before its last one is not what was written.",
    "JOURNAL_NOT_FOUND": "There is no journal of that name.",
    "JOURNAL_UNREADABLE": "The journal cannot be read.",
    "JOURNAL_NOT_WRITTEN": "The journal cannot be written, so that no further outcome would be kept.",
    "JOURNAL_NO_LOCK": "The file system cannot keep two runs from writing the journal at once.",
}
