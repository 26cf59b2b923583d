"""What the benchmark of a night is put together from: workloads, reading by steps, the page cache, sums, tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_writing import write_series
from tritonclient.grpc import service_pb2 as pb

pytest.importorskip("scipy", reason="the benchmarks are of the extra bench")

from noduleserve.benchmarks.night.bench import Measured, Turn
from noduleserve.benchmarks.night.night import Night
from noduleserve.benchmarks.night.page_cache import forget, is_in_memory
from noduleserve.benchmarks.night.reading import STEPS, read_in_steps
from noduleserve.benchmarks.night.stages import stages_of, wall_of
from noduleserve.benchmarks.night.syntax import compress_series
from noduleserve.benchmarks.night.tables import OURS, STRAIGHT, throughput
from noduleserve.benchmarks.night.triton_times import ModelTimes, times_between
from noduleserve.benchmarks.night.workload import Workload, known, one_a_scan, several_a_scan
from noduleserve.benchmarks.rivals.yardstick import Yardstick
from noduleserve.client.readers.series_reader import SeriesReader
from noduleserve.client.readers.work import Cut, Place
from noduleserve.errors import BenchmarkError
from noduleserve.worklist.table import Nodule

SPACING = (2.5, 2.5, 5.0)


def scan(folder: Path, seed: int = 0) -> Path:
    stored = np.random.default_rng(seed).integers(0, 4096, (30, 48, 48)).astype(np.uint16)

    def twelve_bits(_: int, image: Any) -> None:
        image.BitsStored, image.HighBit, image.RescaleIntercept = 12, 11, -1024

    return write_series(folder, stored, spacing=SPACING, series_uid=f"1.2.{seed + 1}", edit=twelve_bits)


def nodule(number: int, path: Path, z: float = 70.0) -> Nodule:
    columns = {"pid": "P", "nodule_id": str(number), "image_path": str(path)}
    return Nodule(number, columns, "P", str(number), path, (60.0, 60.0, z))


# ---------------------------------------------------------------- workloads


def test_every_scan_of_a_night_is_new_to_the_reader(tmp_path: Path) -> None:
    rows = [nodule(0, a := scan(tmp_path / "a")), nodule(1, a, 65.0), nodule(2, b := scan(tmp_path / "b", 1))]
    lines: list[str] = []
    found = known([*rows, nodule(3, tmp_path / "nowhere")], lines.append)
    assert len(found) == 3 and "SERIES_NOT_FOUND" in lines[0]

    one = one_a_scan(found, 5, tmp_path / "one")
    assert [row.image_path.resolve() for row in one.nodules] == [a, b, a, a, b]
    assert [row.center for row in one.nodules] == [rows[i].center for i in (0, 2, 1, 0, 2)]
    assert len({row.image_path for row in one.nodules}) == len({row.nodule_id for row in one.nodules}) == one.scans == 5
    assert one.places == [a, b]

    several = several_a_scan(found, 5, 2, tmp_path / "several")
    assert several is not None and several.name == "1 to 2 nodules a scan" and several.scans == 3
    assert [row.image_path.resolve() for row in several.nodules] == [a, a, b, a, a]
    assert several_a_scan(found, 5, 1, tmp_path / "none") is None
    for row, case in zip((*one.nodules, *several.nodules), (*one.cases, *several.cases), strict=True):
        cut = SeriesReader().cut(Place(row.image_path), row.center or (0.0, 0.0, 0.0))
        assert isinstance(cut, Cut) and np.array_equal(cut.voxels, case.voxels)


def test_a_file_keeps_its_name_behind_a_link(tmp_path: Path) -> None:
    file = next(iter(sorted(scan(tmp_path / "a").iterdir())))
    (found,) = known([nodule(0, file.parent)], print)
    one = one_a_scan([(nodule(0, file), found[1])], 2, tmp_path / "names")
    assert [row.image_path.name for row in one.nodules] == [file.name] * 2
    assert one.nodules[0].image_path.read_bytes() == file.read_bytes()


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("syntax", [None, "rle", "jpeg2000"])
def test_steps_read_what_the_reader_reads(tmp_path: Path, syntax: str | None) -> None:
    folder = scan(tmp_path / "ct")
    plain = sum(path.stat().st_size for path in folder.iterdir())
    (pair,) = known([nodule(0, folder)], print)
    if syntax:
        try:
            compress_series(folder, syntax)
        except (ModuleNotFoundError, RuntimeError) as error:
            pytest.skip(f"nothing here writes {syntax} ({type(error).__name__})")
        assert sum(path.stat().st_size for path in folder.iterdir()) != plain
    workload = one_a_scan([pair], 2, tmp_path / "names")
    cold, warm = read_in_steps(workload.nodules, workload.cases, tmp_path / "reading")
    slices = len(pair[1].voxels)
    assert (cold.cache, warm.cache, cold.scans, cold.slices) == ("cold", "warm", 2, 2 * slices)
    assert set(cold.seconds) == set(STEPS) and min(cold.seconds.values()) > 0
    assert cold.size == warm.size > 0
    wrong = [case.__class__(**{**vars(case), "voxels": case.voxels + np.int16(1)}) for case in workload.cases]
    with pytest.raises(BenchmarkError, match="READING_OTHER"):
        read_in_steps(workload.nodules, wrong, tmp_path / "again")


def test_a_forgotten_file_is_not_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(2**16))
    if is_in_memory(path) is None:
        pytest.skip("this file system does not tell what is in memory")
    assert is_in_memory(path) is True
    assert forget([path]) is True
    assert path.read_bytes() == bytes(2**16)
    assert is_in_memory(path) is True
    assert forget([]) is None


# ---------------------------------------------------------------- sums


def statistics(requests: int, batches: dict[int, int]) -> pb.ModelStatisticsResponse:
    """Of a model that computes a batch in 10 ms, whatever its size, after a wait of 1 ms."""
    response = pb.ModelStatisticsResponse()
    model = response.model_stats.add(name="m", execution_count=sum(batches.values()))
    stats = model.inference_stats
    stats.success.count, stats.queue.ns = requests, requests * 10**6
    stats.success.ns = requests * 11 * 10**6
    stats.compute_infer.ns = requests * 10**7
    for size, count in batches.items():
        model.batch_stats.add(batch_size=size).compute_infer.ns = count * 10**7
    return response


def test_a_batch_is_busy_once_and_counted_for_each_request() -> None:
    before, after = statistics(2, {1: 2}), statistics(12, {1: 4, 4: 2})
    found = times_between(before, after)["m"]
    assert (found.requests, found.executions) == (10, 4)
    assert (found.queue_s, found.counted_s, found.busy_s, found.whole_s) == pytest.approx((0.01, 0.1, 0.04, 0.11))
    assert times_between(pb.ModelStatisticsResponse(), before)["m"].requests == 2


def night(raw: np.ndarray) -> Night:
    """Ten nodules: preprocessing in batches of two; the encoder busy for 0.8 of 1.2 seconds."""
    return Night(
        raw=raw,
        connect_s=0.5,
        seconds=1.25,
        answers=[0.2, *np.linspace(0.3, 1.1, 9)],
        on_disk_s=1.2,
        client={"open": 0.1, "box": 0.2, "wait": 0.3, "server": 4.0},
        journal={"lines": 0.01, "disk": 0.02, "index": 0.03},
        models={
            "nodule_preprocess": ModelTimes(10, 5, 0.2, 0.4, 0.2, 0.6),
            "nodule_encoder": ModelTimes(10, 10, 2.0, 0.8, 0.8, 2.8),
            "nodule_similarity": ModelTimes(10, 10, 0.0, 0.1, 0.1, 0.1),
            "nodule_score": ModelTimes(10, 10, 0.0, 0.0, 0.0, 3.7),
        },
        processors={"client": 0.5},
        readers="1 threads",
    )


def test_stages_add_up_to_what_the_client_waited() -> None:
    stages = {stage.name: stage.seconds for stage in stages_of(night(np.zeros((10, 2))))}
    names = list(stages)
    asked = names[names.index("transport") : names.index("head") + 1]
    assert sum(stages[name] for name in asked) == pytest.approx(4.0)
    assert stages["transport"] == pytest.approx(0.3)
    assert stages["queue of preprocessing"] == pytest.approx(0.4)  # with the other one of the batch
    assert stages["results"] == pytest.approx(0.05)


def test_wall_time_by_hand() -> None:
    wall = wall_of(night(np.zeros((10, 2))), bare=0.7)
    expected = (0.7, 0.1, 0.12, 0.18, 0.1, 0.05)
    assert tuple(wall.parts().values()) == pytest.approx(expected)
    assert wall.seconds == pytest.approx(1.25)
    assert wall.utilisation == pytest.approx(0.64)
    assert wall_of(night(np.zeros((10, 2))), bare=0.7, instances=2).slower == pytest.approx(-0.3)


# ---------------------------------------------------------------- tables


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    (pair,) = known([nodule(0, scan(tmp_path / "ct"))], print)
    return one_a_scan([pair], 10, tmp_path / "names")


def measured(workload: Workload, off: float) -> Measured:
    """Two turns whose scores are off the right ones by so much, with the straightforward method."""
    right = np.array([0.25, 0.75])
    raw = np.tile(right, (10, 1))
    turns = [Turn(bare, raw, night(raw + off), 0.5, [right] * 2, bare_cpu_s=0.45) for bare in (1.0, 1.25)]
    yardstick = Yardstick({workload.cases[0].name: right}, "")
    return Measured({workload: turns}, yardstick, [], [], 1.0, {"reading": 1.0}, "", [])


def row_of(found: Measured, way: str) -> dict[str, object]:
    table = throughput(found, 1)
    (row,) = [r for r in (dict(zip(table.columns, row, strict=True)) for row in table.rows) if r["way"] == way]
    return row


def test_ratios_to_both_baselines(workload: Workload) -> None:
    ours = row_of(measured(workload, 0.0), OURS)
    assert (ours["of_bare_encoder"], ours["lowest"], ours["highest"]) == pytest.approx((0.9, 0.8, 1.0))
    assert ours["between_answers"] == pytest.approx(1.125)  # nine nodules in 0.9 s, and ten in 1.125 s
    assert ours["by_processor_time"] == pytest.approx(0.9)
    assert ours["times_straightforward"] == pytest.approx(4.0)
    assert ours["nodules_per_s"] == pytest.approx(8.0)
    assert ours["counts"] is True
    theirs = row_of(measured(workload, 0.0), STRAIGHT)
    assert (theirs["nodules"], theirs["nodule_ms"], theirs["counts"]) == (2, pytest.approx(500), True)
    bare, way, busy = throughput(measured(workload, 0.0), 1).goals[0], OURS, ours["encoder_busy"]
    assert bare.row == {"way": way} and not bare.met(0.949) and busy == pytest.approx(0.64)


@pytest.mark.parametrize("off", [2e-6, 1e-3])
def test_wrong_scores_have_no_ratio(workload: Workload, off: float) -> None:
    ours = row_of(measured(workload, off), OURS)
    assert ours["counts"] is False
    assert ours["differs"] == pytest.approx(off)
    assert ours["of_bare_encoder"] is ours["times_straightforward"] is None
