"""Everything that noduleserve raises on purpose, drawn as one tree.

    NoduleserveError             code, what is wrong, what to do about it
     +-- WorklistError           the worklist as a whole cannot be used
     +-- SeriesError             one series, or one file of it, cannot be read right
     +-- ServerError             the server cannot be started, reached or trusted
     +-- RequestRefused          the server answered one nodule with a refusal
     +-- JournalError            the journal of a run cannot be opened, read or written
     +-- ResultsError            an output of results cannot be written
     +-- ReleaseError            a release folder is damaged, edited or not a release
     +-- CheckpointError         a checkpoint cannot be turned into a release
     +-- ParityError             an exported graph does not compute what the checkpoint computes
     +-- EngineError             a TensorRT plan cannot be built, found or trusted
     +-- EvaluationError         results and labels cannot be held against each other
     +-- TrainingError           a model cannot be trained from what was given
     +-- BenchmarkError          a record of a benchmark cannot be written, read or compared

`preprocessing.BadRequest` stands beside the tree, since preprocessing also runs where noduleserve is not installed;
it carries the same `code`, `what` and `mend`.
"""

from __future__ import annotations


class NoduleserveError(Exception):
    """An error with a stable code, a sentence that says what is wrong and one that says what to do.

    Attributes:
        code: upper case, stable over releases; programs match on it.
        what: what is wrong; no patient data but the ids that the worklist gives.
        mend: what to do about it.
    """

    def __init__(self, code: str, what: str, mend: str = "") -> None:
        self.code, self.what, self.mend = code, what, mend
        super().__init__(f"[{code}] {self.sentence}")

    @property
    def sentence(self) -> str:
        """What is wrong and how to mend it, without the code."""
        return f"{self.what} Mend: {self.mend}" if self.mend else self.what


class WorklistError(NoduleserveError):
    """The worklist as a whole cannot be used."""


class SeriesError(NoduleserveError):
    """One series, or one file of it, cannot be read right."""


class ServerError(NoduleserveError):
    """The server cannot be started, reached or trusted."""


class RequestRefused(NoduleserveError):
    """The server answered one nodule with a refusal."""


class JournalError(NoduleserveError):
    """The journal of a run cannot be opened, read or written."""


class ResultsError(NoduleserveError):
    """An output of results cannot be written."""


class ReleaseError(NoduleserveError):
    """A release folder is damaged, edited or not a release."""


class CheckpointError(NoduleserveError):
    """A checkpoint cannot be turned into a release."""


class ParityError(NoduleserveError):
    """An exported graph does not compute what the checkpoint computes."""


class EngineError(NoduleserveError):
    """A TensorRT plan cannot be built, found or trusted."""


class EvaluationError(NoduleserveError):
    """Results and labels cannot be held against each other."""


class BenchmarkError(NoduleserveError):
    """Nothing could be measured, planned or compared, or what was measured does not count."""


class TrainingError(NoduleserveError):
    """A model cannot be trained from what was given."""
