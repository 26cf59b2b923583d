import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marking import MarkedCt

from noduleserve.errors import WorklistError
from noduleserve.worklist.collect import Collector, find_sources
from noduleserve.worklist.sources.base import Choice, Marked
from noduleserve.worklist.sources.ct_series import CtFinder
from noduleserve.worklist.sources.lidc import read_lidc
from noduleserve.worklist.write import write_worklist


def roi(sop: str, points: list[tuple[int, int]], inclusion: str = "TRUE") -> str:
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    return f"<roi><imageSOP_UID>{sop}</imageSOP_UID><inclusion>{inclusion}</inclusion>{edges}</roi>"


def square(x: int, y: int, half: int) -> list[tuple[int, int]]:
    return [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]


def write(path: Path, sessions: list[list[str]], series_uid: str = "1.2.3.4", before: str = "") -> Path:
    """Write sessions of nodules, a nodule being its ROIs."""
    body = "".join(
        "<readingSession>"
        + "".join(f"<unblindedReadNodule><noduleID>{i}</noduleID>{n}</unblindedReadNodule>" for i, n in enumerate(s))
        + "<nonNodule><nonNoduleID>9</nonNoduleID></nonNodule></readingSession>"
        for s in sessions
    )
    path.write_text(
        f'<?xml version="1.0"?>{before}<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>'
        f"<SeriesInstanceUid>{series_uid}</SeriesInstanceUid></ResponseHeader>{body}</LidcReadMessage>"
    )
    return path


def read(path: Path, series: Path | None = None, small: bool = False) -> Marked:
    return read_lidc(path, CtFinder(series), Choice(small=small))


def refusal(path: Path, series: Path | None = None) -> str:
    with pytest.raises(WorklistError) as caught:
        read(path, series)
    assert caught.value.mend and str(path.parent) not in str(caught.value)
    return caught.value.code


def test_readers_are_joined_and_holes_left_out(tmp_path: Path, marked_ct: MarkedCt) -> None:
    sop = [image.SOPInstanceUID for image in marked_ct.images]
    first = "".join(roi(sop[z], square(5, 5, 2)) for z in (2, 3, 4)) + roi(sop[3], square(4, 5, 1), "FALSE")
    second = "".join(roi(sop[z], square(6, 5, 2)) for z in (2, 3, 4))
    far = roi(sop[8], square(10, 8, 1))
    marked = read(write(tmp_path / "a.xml", [[first], [second, far], []]))
    hole = (5 * 16 * 3 - 4 * 4) / (16 * 3 - 4)  # column of the first reader's centroid
    expected = marked_ct.lps(((hole + 6) / 2, 5, 3), (10, 8, 8))
    expected = expected[np.argsort(expected[:, 2])]
    np.testing.assert_allclose([m.center for m in marked.markings], expected, atol=1e-9)
    assert sorted(m.readers or 0 for m in marked.markings) == [1, 2]
    assert [m.nodule_id for m in marked.markings] == ["1", "2"]
    assert (marked.pid, marked.series_uid) == ("P-4711", "1.2.3.4")


def test_two_nodules_of_one_reader_are_never_joined(tmp_path: Path, marked_ct: MarkedCt) -> None:
    sop = [image.SOPInstanceUID for image in marked_ct.images]
    near = [roi(sop[3], square(5, 5, 2)), roi(sop[3], square(6, 5, 2))]
    marked = read(write(tmp_path / "a.xml", [near, [roi(sop[3], square(6, 5, 2))]]))
    assert sorted(m.readers or 0 for m in marked.markings) == [1, 2]


def test_small_nodules(tmp_path: Path, marked_ct: MarkedCt) -> None:
    sop = [image.SOPInstanceUID for image in marked_ct.images]
    outlined, same, other = roi(sop[3], square(5, 5, 2)), roi(sop[3], [(5, 5)]), roi(sop[7], [(11, 9)])
    path = write(tmp_path / "a.xml", [[outlined, other], [same, other]])
    without, with_small = read(path), read(path, small=True)
    assert [m.label for m in without.markings] == ["nodule"]
    assert without.left_out == ["1 nodules below 3 mm (taken with --small)"]
    (small,) = [m for m in with_small.markings if m.label == "nodule below 3 mm"]
    assert (small.readers, small.diameter_mm) == (2, None) and len(with_small.markings) == 2
    np.testing.assert_allclose(small.center, marked_ct.lps((11, 9, 7))[0])


def test_an_outline_drawn_as_a_line_has_the_middle_of_its_points(tmp_path: Path, marked_ct: MarkedCt) -> None:
    (marking,) = read(write(tmp_path / "a.xml", [[roi(marked_ct.images[3].SOPInstanceUID, [(4, 5), (6, 5)])]])).markings
    np.testing.assert_allclose(marking.center, marked_ct.lps((5, 5, 3))[0])


def test_refusals(tmp_path: Path, marked_ct: MarkedCt) -> None:
    sop = marked_ct.images[3].SOPInstanceUID
    nodule = roi(sop, square(5, 5, 2))
    other = write(tmp_path / "other.xml", [[nodule]], series_uid="1.2.9")
    assert refusal(other, marked_ct.folder) == "WORKLIST_SOURCE_OTHER_SERIES"
    assert refusal(other) == "WORKLIST_SOURCE_NEEDS_SERIES"
    (alone := tmp_path / "alone").mkdir()
    assert refusal(write(alone / "a.xml", [[nodule]])) == "WORKLIST_SOURCE_NEEDS_SERIES"
    assert refusal(write(tmp_path / "a.xml", [[roi("1.2.8", square(5, 5, 2))]])) == "WORKLIST_SOURCE_OTHER_SERIES"
    for bad in ("", roi(sop, []), nodule.replace(">3<", ">x<"), nodule.replace(">3<", ">nan<")):
        assert refusal(write(tmp_path / "a.xml", [[bad]])) == "WORKLIST_SOURCE_UNREADABLE"
    for text in ("", "<LidcReadMessage>", "<other/>", '<?xml version="1.0" encoding="none"?><LidcReadMessage/>'):
        (tmp_path / "a.xml").write_text(text)
        assert refusal(tmp_path / "a.xml") == "WORKLIST_SOURCE_UNREADABLE"


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "doctype",
    [
        f'<!DOCTYPE LidcReadMessage [<!ENTITY l0 "ha">{LAUGHS}]>',
        '<!DOCTYPE LidcReadMessage [<!ENTITY e SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE LidcReadMessage SYSTEM "http://localhost:9/x.dtd">',
    ],
)
def test_no_entities(tmp_path: Path, marked_ct: MarkedCt, doctype: str) -> None:
    nodule = roi(marked_ct.images[3].SOPInstanceUID, square(5, 5, 2))
    assert refusal(write(tmp_path / "a.xml", [[nodule]], before=doctype)) == "WORKLIST_SOURCE_UNREADABLE"


def test_the_real_readings_have_the_expected_centres(
    lidc_series: dict[str, Path], expected: Any, tmp_path: Path
) -> None:
    collector = Collector()
    done = [collector.collect(*found) for found in find_sources(list(lidc_series.values()))]
    rows = [row for one in done for row in one.rows]
    assert [one.error for one in done] == [None, None] and len(rows) == 12
    write_worklist(tmp_path / "worklist.csv", rows)
    with (tmp_path / "worklist.csv").open(newline="") as file:
        written = {re.sub(r".*/(lidc[^/]*)/.*", r"\1", row["image_path"]): [] for row in csv.DictReader(file)}
    for row in rows:
        assert row.image is not None
        written[row.image.parent.name].append(row.marking.center)
    for row, center in zip(expected.nodules, expected.centers_lps, strict=True):
        # Expected centres are rounded to 0.01 mm for each reader, and again for the mean.
        apart = [np.abs(np.subtract(one, center)).max() for one in written[row["image_path"]]]
        assert sum(a < 0.0101 for a in apart) == 1
