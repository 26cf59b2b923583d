"""Taking a night up again: which nodules are done, and what is filed under which key."""

from __future__ import annotations

from pathlib import Path

from noduleserve.results.outcome import Outcome
from noduleserve.worklist.table import Nodule

from .contents import Contents
from .key import Key, key_of, stamp_of
from .record import OutcomeRecord, RowRecord


class Resume:
    """Knows what a journal has for the nodules of a run, and files what comes for them.

    The stamp of a place without a series UID is taken once, when it is first asked for; so ask before voxels are read:
    a file that changes meanwhile is then read again by the next run.
    """

    def __init__(self, contents: Contents, release: str, preprocessing: str, *, retry_parked: bool = False) -> None:
        """Name the run.

        Args:
            contents: the journal; outcomes that are appended to it later count too.
            release: id of the release that scores.
            preprocessing: version of the preprocessing.
            retry_parked: try nodules again that an earlier run could not score.
        """
        self._contents, self._release, self._preprocessing = contents, release, preprocessing
        self._retry_parked = retry_parked
        self._stamps: dict[Path, str] = {}

    def key(self, nodule: Nodule, series_uid: str) -> Key:
        """What a nodule's outcome is filed under, given the UID of its series, or "" where none was learned."""
        stamp = "" if series_uid and not nodule.problem else self._stamp(nodule.image_path)
        return key_of(nodule, self._release, self._preprocessing, series_uid=series_uid, stamp=stamp)

    def done(self, nodule: Nodule, series_uid: str) -> Outcome | None:
        """The outcome that the journal has for a nodule, with this nodule's own row, or None if it is to be scored.

        Raises:
            JournalError: JOURNAL_DAMAGED, JOURNAL_UNREADABLE.
        """
        record = self._contents.get(self.key(nodule, series_uid))
        if record is None or (record.outcome.score is None and self._retry_parked):
            return None
        return record.outcome_of(nodule)

    def record(self, outcome: Outcome) -> OutcomeRecord | RowRecord:
        """What is appended to the journal for an outcome: the outcome, or where it came from the journal, the row."""
        key = self.key(outcome.nodule, outcome.series_uid)
        return RowRecord(key, outcome.nodule) if outcome.resumed else OutcomeRecord(key, outcome)

    def _stamp(self, path: Path) -> str:
        if path not in self._stamps:
            self._stamps[path] = stamp_of(path)
        return self._stamps[path]
