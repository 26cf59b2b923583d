"""Records: what goes into a line comes back, to the bit."""

from __future__ import annotations

import base64
import dataclasses
import json
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from outcome_making import content, nodule, parked, run, score, scored

from noduleserve.ct.codes import WARNING_CODES
from noduleserve.ct.doubt import InputWarning
from noduleserve.journal.key import key_of
from noduleserve.journal.line import decode, encode
from noduleserve.journal.record import OutcomeRecord, RowRecord, RunRecord, nodule_of
from noduleserve.results.outcome import Outcome, Score
from noduleserve.worklist.table import Nodule

TEXT = st.text(max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
FLOATS = st.floats(width=32)  # NaN and infinity too


def floats(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.float32, shape, elements=FLOATS)


@st.composite
def scores(draw: st.DrawFn) -> Score:
    folds = draw(st.integers(1, 3))
    return Score(
        malignancy=draw(FINITE),
        raw=draw(floats(folds)),
        calibrated=draw(floats(folds)),
        semantic=draw(floats(draw(st.integers(0, 5)))),
        embedding=draw(floats(folds, 4)),
        view_attention=draw(floats(folds, 9)),
        release=draw(TEXT),
    )


@st.composite
def records(draw: st.DrawFn) -> OutcomeRecord:
    center = draw(st.none() | st.tuples(FINITE, FINITE, FINITE))
    row = Nodule(
        number=draw(st.integers(0, 10**6)),
        columns=draw(st.dictionaries(TEXT, TEXT, max_size=4)),
        pid=draw(TEXT),
        nodule_id=draw(TEXT),
        image_path=Path("/ct") / draw(TEXT.filter(lambda text: "\0" not in text)),
        center=center,
        problem="" if center else "coordX is empty.",
        series_uid=draw(st.sampled_from(["", "1.2.840"])),
    )
    code = st.builds(InputWarning, st.sampled_from(sorted(WARNING_CODES)), TEXT, TEXT)
    found = draw(st.none() | scores())
    release = found.release if found else draw(TEXT)
    key = key_of(row, release, draw(TEXT), series_uid=draw(st.sampled_from(["", "1.2.3"])))
    outcome = Outcome(
        row,
        found,
        error_code="" if found else "SERIES_UNREADABLE",
        error=draw(TEXT),
        seconds=draw(st.dictionaries(TEXT, FINITE, max_size=3)),
        warnings=tuple(draw(st.lists(code, max_size=2))),
        series_uid=key.series_uid,
        scanner=draw(st.dictionaries(TEXT, TEXT, max_size=2)),
    )
    return OutcomeRecord(key, outcome)


@settings(max_examples=150, deadline=None)
@given(records())
def test_every_outcome_comes_back_to_the_bit(record: OutcomeRecord) -> None:
    back = OutcomeRecord.of(decode(encode(record.fields())))
    assert content(back) == content(record)
    assert back.time == record.time
    assert back.key.text == decode(encode(record.fields()))["key"]


def test_the_payload_of_a_nan_comes_back_too() -> None:
    odd = np.frombuffer(struct.pack("<2I", 0x7FC12345, 0xFF800001), "<f4").astype(np.float32)
    before = dataclasses.replace(score(1), calibrated=odd)
    record = OutcomeRecord(scored(1).key, dataclasses.replace(scored(1).outcome, score=before))
    after = OutcomeRecord.of(decode(encode(record.fields()))).outcome.score
    assert after is not None
    assert after.calibrated.tobytes() == odd.tobytes()


def test_arrays_that_come_back_are_their_own_and_may_be_changed() -> None:
    back = OutcomeRecord.of(decode(encode(scored(1).fields()))).outcome.score
    assert back is not None
    back.raw[0] = 0.5
    assert back.raw[0] == 0.5


def test_the_line_can_be_read_by_the_specification_alone() -> None:
    record = scored(3)
    line = encode(record.fields())
    body, end = line[:-19], line[-19:]
    assert end == b',"crc":"%08x"}\n' % zlib.crc32(body)
    fields = json.loads(line)
    embedding = fields["score"]["embedding"]
    numbers = struct.unpack("<512f", base64.b64decode(embedding["f4"]))
    assert record.outcome.score is not None
    assert embedding["shape"] == [2, 256]
    assert list(numbers) == record.outcome.score.embedding.ravel().tolist()
    assert fields["nodule"]["columns"] == record.outcome.nodule.columns
    assert fields["time"].endswith("Z") and len(fields["time"]) == len("2026-11-24T22:00:00.000Z")


def test_without_embedding_an_empty_one_comes_back() -> None:
    line = encode(scored(3).fields(embedding=False))
    back = OutcomeRecord.of(decode(line)).outcome.score
    assert back is not None
    assert back.embedding.shape == (2, 0) and back.embedding.dtype == np.float32
    assert len(line) < len(encode(scored(3).fields())) - 2 * 256 * 4


def test_views_are_not_kept() -> None:
    record = scored(1)
    with_views = dataclasses.replace(record.outcome, views=np.zeros((9, 50, 50), np.float32))
    line = encode(OutcomeRecord(record.key, with_views, record.time).fields())
    assert line == encode(record.fields())
    assert OutcomeRecord.of(decode(line)).outcome.views is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"raw": np.float64([0.1, 0.2])}, "float64"),
        ({"malignancy": float("nan")}, "no score"),
        ({"release": "ns-other"}, "release"),
    ],
)
def test_a_score_that_would_not_come_back_right_is_refused(changes: dict[str, object], why: str) -> None:
    record = scored(1)
    bad = dataclasses.replace(record.outcome, score=dataclasses.replace(score(1), **changes))
    with pytest.raises(ValueError, match=why):
        OutcomeRecord(record.key, bad).fields()


def test_an_outcome_under_another_nodules_key_or_of_two_minds_is_refused() -> None:
    with pytest.raises(ValueError, match="own nodule"):
        OutcomeRecord(scored(2).key, scored(1).outcome).fields()
    with pytest.raises(ValueError, match="either"):
        OutcomeRecord(scored(1).key, Outcome(nodule(1))).fields()
    with pytest.raises(ValueError, match="either"):
        OutcomeRecord(scored(1).key, Outcome(nodule(1), score(1), error_code="CENTER_OUTSIDE")).fields()
    with pytest.raises(ValueError, match="series"):
        OutcomeRecord(scored(1).key, dataclasses.replace(scored(1).outcome, series_uid="1.2.2")).fields()
    with pytest.raises(ValueError, match="number"):
        row = dataclasses.replace(nodule(1), number=-1)
        OutcomeRecord(scored(1).key, Outcome(row, error_code="CENTER_OUTSIDE")).fields()


def test_runs_and_rows_come_back() -> None:
    begun = dataclasses.replace(run(12), cut_bytes=5, time=datetime(2026, 11, 24, 22, 0, 0, 123000, UTC))
    back = RunRecord.of(decode(encode(begun.fields())))
    assert {f.name: getattr(back, f.name) for f in dataclasses.fields(back) if f.name != "info"} == {
        f.name: getattr(begun, f.name) for f in dataclasses.fields(begun) if f.name != "info"
    }
    assert dataclasses.asdict(back.info) == dataclasses.asdict(begun.info)
    assert nodule_of(decode(encode(RowRecord(parked(1).key, nodule(4)).fields()))) == nodule(4)
