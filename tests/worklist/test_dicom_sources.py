"""RTSTRUCT, SEG and SR, written by pydicom and highdicom for a known oblique geometry."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from marking import MarkedCt, contour, square, write_rtstruct
from pydicom.uid import generate_uid

from noduleserve.errors import WorklistError
from noduleserve.worklist.sources.base import Choice, Marked
from noduleserve.worklist.sources.ct_series import CtFinder
from noduleserve.worklist.sources.rtstruct import read_rtstruct
from noduleserve.worklist.sources.seg import read_seg
from noduleserve.worklist.sources.sr import read_sr

EVERY = Choice(roi=re.compile("."))


def refusal(read: Any, path: Path, series: Path | None = None, choice: Choice = EVERY) -> str:
    with pytest.raises(WorklistError) as caught:
        read(path, CtFinder(series), choice)
    assert caught.value.mend
    return caught.value.code


# ---------------------------------------------------------------- RTSTRUCT


def test_rtstruct_centroids_holes_and_points(tmp_path: Path, marked_ct: MarkedCt) -> None:
    hollow = [square(marked_ct, 5, 5, z, 2) for z in (2, 3, 4)] + [square(marked_ct, 4, 5, 3, 0.5)]
    points = [contour(marked_ct.lps((8, 7, 6)), "POINT"), contour(marked_ct.lps((9, 7, 6)), "POINT")]
    path = write_rtstruct(
        tmp_path / "rs.dcm",
        marked_ct,
        [
            ("hollow nodule", "", hollow),
            ("P", "GTV", points),
            ("Lung_L", "ORGAN", [square(marked_ct, 5, 5, 2, 4)]),
            ("lesion_2", "", []),
        ],
    )
    marked = read_rtstruct(path, CtFinder(), Choice())
    x = (5 * 16 * 3 - 4 * 1) / (16 * 3 - 1)
    expected = marked_ct.lps((x, 5, 3), (8, 7, 6), (9, 7, 6))
    np.testing.assert_allclose([m.center for m in marked.markings], expected, atol=1e-5)
    assert [m.nodule_id for m in marked.markings] == ["1", "2.1", "2.2"]
    assert [m.label for m in marked.markings] == ["hollow nodule", "P", "P"]
    volume = (16 * 3 - 1) * 1.5 * 1.25 * 2.5
    assert marked.markings[0].diameter_mm == pytest.approx((6 * volume / np.pi) ** (1 / 3), rel=1e-4)
    assert marked.left_out == ["1 structures without outline or point"]
    assert (marked.series_uid, marked.frame_of_reference) == (marked_ct.uid, marked_ct.frame)
    (lung,) = read_rtstruct(path, CtFinder(), Choice(roi=re.compile("^lung", re.IGNORECASE))).markings
    assert lung.nodule_id == "3"


def test_rtstruct_refusals(tmp_path: Path, marked_ct: MarkedCt) -> None:
    organ = write_rtstruct(tmp_path / "rs.dcm", marked_ct, [("Lung_L", "ORGAN", [square(marked_ct, 5, 5, 2, 4)])])
    assert refusal(read_rtstruct, organ, choice=Choice()) == "WORKLIST_SOURCE_NO_NODULE"
    bent = contour(marked_ct.lps((3, 3, 2), (7, 3, 2), (7, 7, 5), (3, 7, 2)))
    odd = square(marked_ct, 5, 5, 2, 4)
    odd.ContourData = odd.ContourData[:-1]
    for bad in (bent, odd):
        path = write_rtstruct(tmp_path / "bad.dcm", marked_ct, [("GTV", "", [bad])])
        assert refusal(read_rtstruct, path) == "WORKLIST_SOURCE_UNREADABLE"
    twice = pydicom.dcmread(organ)
    twice.ROIContourSequence.append(twice.ROIContourSequence[0])
    twice.save_as(organ)
    assert refusal(read_rtstruct, organ) == "WORKLIST_SOURCE_UNREADABLE"


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        *[(n, True) for n in ("Nodule 3", "LESION_1", "GTVp", "gtv-1", "lung_GTV", "Mass", "Tumour", "tumor bed")],
        *[(n, False) for n in ("Lung", "Body", "Heart", "massive", "CTV", "PTV_60", "Spinal cord", "ITV", "")],
    ],
)  # fmt: skip
def test_names_that_stand_for_a_nodule(name: str, taken: bool) -> None:
    assert Choice().takes(name) is taken


# ---------------------------------------------------------------- SEG

PIECES = [(slice(2, 5), slice(3, 6), slice(4, 9)), (slice(7, 9), slice(8, 11), slice(1, 3))]


def centers_of(ct: MarkedCt, pieces: list[tuple[slice, slice, slice]]) -> list[list[float]]:
    middles = [[(s.start + s.stop - 1) / 2 for s in piece[::-1]] for piece in pieces]
    return sorted(ct.lps(*middles).tolist())


def write_seg(path: Path, ct: MarkedCt, kind: str) -> Path:
    """Write two segments: a nodule in two pieces, and an organ."""
    pytest.importorskip("highdicom", reason="SEG is read with highdicom")
    from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    mask = np.zeros((10, 12, 14, 2), np.float32 if kind == "FRACTIONAL" else np.uint8)
    for piece in PIECES:
        mask[(*piece, 0)] = 1
    mask[0, 0, 0, 1] = 1
    if kind == "FRACTIONAL":
        mask[6, 0, 0, 0] = 0.3  # unlikely to be nodule
    if kind == "LABELMAP":
        mask = mask[..., 0] + 2 * mask[..., 1]
    structure, nodule, lung = codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Nodule, codes.SCT.Lung
    manual = SegmentAlgorithmTypeValues.MANUAL
    dataset = Segmentation(
        ct.images,
        mask,
        kind,
        [
            SegmentDescription(1, "A", structure, nodule, manual),
            SegmentDescription(2, "B", codes.SCT.Organ, lung, manual),
        ],
        generate_uid(), 1, generate_uid(), 1, "maker", "model", "1", "serial",
    )  # fmt: skip
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_seg_pieces_are_nodules(tmp_path: Path, marked_ct: MarkedCt, kind: str) -> None:
    path = write_seg(tmp_path / "seg.dcm", marked_ct, kind)
    marked = read_seg(path, CtFinder(), Choice())
    np.testing.assert_allclose(sorted(m.center for m in marked.markings), centers_of(marked_ct, PIECES), atol=1e-4)
    assert sorted(m.nodule_id for m in marked.markings) == ["1.1", "1.2"]
    volumes = sorted(np.array([3 * 3 * 5, 2 * 3 * 2]) * 1.5 * 1.25 * 2.5)
    np.testing.assert_allclose(
        sorted(m.diameter_mm or 0 for m in marked.markings), np.cbrt(6 * np.array(volumes) / np.pi), rtol=1e-4
    )
    assert (marked.series_uid, marked.frame_of_reference, marked.pid) == (marked_ct.uid, marked_ct.frame, "P-4711")
    assert [m.nodule_id for m in read_seg(path, CtFinder(), Choice(roi=re.compile("B"))).markings] == ["2"]


def test_without_highdicom(tmp_path: Path, marked_ct: MarkedCt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom.seg", None)
    monkeypatch.setitem(sys.modules, "highdicom.sr", None)
    for read in (read_seg, read_sr):
        assert refusal(read, marked_ct.folder / "000.dcm") == "WORKLIST_SOURCE_NEEDS_PACKAGE"


# ---------------------------------------------------------------- SR


def write_sr(path: Path, ct: MarkedCt, names: str = "abcdef") -> Path:
    """Write measurement groups of every kind of coordinates; `names` says which."""
    pytest.importorskip("highdicom", reason="SR is read with highdicom")
    from highdicom import sr
    from pydicom.sr.codedict import codes

    image = ct.images[4]
    on_image = sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID)
    of_surface = [sr.SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID)]
    planar, volumetric = (
        sr.PlanarROIMeasurementsAndQualitativeEvaluations,
        sr.VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    polygon = ct.lps((2, 2, 3), (6, 2, 3), (6, 4, 3), (2, 4, 3), (2, 2, 3))
    ellipsoid = ct.lps((2, 5, 3), (8, 5, 3), (5, 3, 3), (5, 7, 3), (5, 5, 1), (5, 5, 5))
    surface = sr.VolumeSurface("ELLIPSOID", ellipsoid, ct.frame, of_surface)
    line = np.array([[3.5, 3.5], [5.5, 3.5], [5.5, 7.5], [3.5, 7.5], [3.5, 3.5]])
    regions: dict[str, tuple[Any, dict[str, Any]]] = {
        "a": (planar, {"referenced_region": sr.ImageRegion3D("POINT", ct.lps((4, 5, 3)), ct.frame)}),
        "b": (planar, {"referenced_region": sr.ImageRegion3D("POLYGON", polygon, ct.frame)}),
        "c": (volumetric, {"referenced_volume_surface": surface}),
        "d": (planar, {"referenced_region": sr.ImageRegion("CIRCLE", np.array([[5.5, 6.5], [7.5, 6.5]]), on_image)}),
        "e": (planar, {"referenced_region": sr.ImageRegion("POLYLINE", line, on_image)}),
        "f": (volumetric, {"referenced_regions": [sr.ImageRegion("POLYLINE", line, on_image)]}),
    }  # fmt: skip
    groups = []
    for name in names:
        template, region = regions[name]
        tracking = sr.TrackingIdentifier(generate_uid(), f"N-{name}")
        groups.append(template(tracking, **region, finding_type=codes.SCT.Nodule))
    person = sr.ObserverContext(codes.DCM.Person, sr.PersonObserverIdentifyingAttributes("A^B"))
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_person_context=person),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
    )
    sr.Comprehensive3DSR(
        evidence=ct.images, content=report, series_instance_uid=generate_uid(), series_number=1,
        sop_instance_uid=generate_uid(), instance_number=1, manufacturer="maker",
    ).save_as(path)  # fmt: skip
    return path


MIDDLES = {"a": (4, 5, 3), "b": (4, 3, 3), "c": (5, 5, 3), "d": (5, 6, 4), "e": (4, 5, 4), "f": (4, 5, 4)}


def read_all(path: Path, series: Path | None = None) -> Marked:
    return read_sr(path, CtFinder(series), Choice())


def test_sr_coordinates_in_the_patient_and_on_images(tmp_path: Path, marked_ct: MarkedCt) -> None:
    marked = read_all(write_sr(tmp_path / "sr.dcm", marked_ct))
    assert [m.nodule_id for m in marked.markings] == [f"N-{name}" for name in MIDDLES]
    assert {m.label for m in marked.markings} == {"Nodule"}
    np.testing.assert_allclose([m.center for m in marked.markings], marked_ct.lps(*MIDDLES.values()), atol=1e-4)
    diameters = [m.diameter_mm for m in marked.markings]
    area = 4 * 2 * 1.5 * 1.25
    assert diameters[0] is None
    assert diameters[1] == pytest.approx(2 * np.sqrt(area / np.pi), rel=1e-4)
    assert diameters[2] == pytest.approx((6 * 1.5 * 4 * 1.25 * 4 * 2.5) ** (1 / 3), rel=1e-4)
    assert diameters[3] == pytest.approx(2 * 2 * 1.5, rel=1e-4)
    assert (marked.series_uid, marked.frame_of_reference) == (marked_ct.uid, marked_ct.frame)


def test_the_first_pixel_of_sr_coordinates_is_where_highdicom_puts_it(tmp_path: Path, marked_ct: MarkedCt) -> None:
    (marking,) = read_all(write_sr(tmp_path / "sr.dcm", marked_ct, "d")).markings
    from highdicom.spatial import ImageToReferenceTransformer

    image = marked_ct.images[4]
    transformer = ImageToReferenceTransformer(
        image.ImagePositionPatient, image.ImageOrientationPatient, image.PixelSpacing
    )
    np.testing.assert_allclose(marking.center, transformer(np.array([[5.5, 6.5]]))[0], atol=1e-4)


def test_sr_refusals(tmp_path: Path, marked_ct: MarkedCt) -> None:
    path = write_sr(tmp_path / "sr.dcm", marked_ct, "ad")
    assert refusal(read_sr, path, choice=Choice(roi=re.compile("other"))) == "WORKLIST_SOURCE_NO_NODULE"
    (away := tmp_path / "away").mkdir()
    assert refusal(read_sr, path.rename(away / "sr.dcm")) == "WORKLIST_SOURCE_NEEDS_SERIES"
    (marking,) = read_sr(away / "sr.dcm", CtFinder(marked_ct.folder), Choice(roi=re.compile("N-d"))).markings
    np.testing.assert_allclose(marking.center, marked_ct.lps((5, 6, 4))[0], atol=1e-4)
    (marked_ct.folder / "004.dcm").unlink()
    assert refusal(read_sr, away / "sr.dcm", marked_ct.folder) == "WORKLIST_SOURCE_OTHER_SERIES"
    in_patient = write_sr(away / "sr.dcm", marked_ct, "abc")  # needs no CT
    assert len(read_all(in_patient).markings) == 3
