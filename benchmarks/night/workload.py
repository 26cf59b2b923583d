"""What a night of the benchmark is given: scans as they lie on disk, each under as many names as there are patients."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, zip_longest
from pathlib import Path

import numpy as np

from noduleserve.demo.command import make_worklist
from noduleserve.worklist.table import Nodule, read_worklist

from ..rivals.base import Case
from ..rivals.cases import MOST_CASES, cases_of
from .syntax import compress_series

PHANTOMS, COPIES = 2, 4  # different chests, three seconds each to make; and how many patients' folders each lies in
FARTHEST_MM = 3.0  # that a phantom's centres are shifted along an axis, so that no two of its nodules are alike
_Known = tuple[Nodule, Case]


@dataclass(frozen=True, eq=False)
class Workload:
    """The rows of one night.

    Attributes:
        name: in tables.
        nodules: rows; each scan has a path of its own, so that it is opened like one never seen before.
        cases: the nodule of each row as it is in memory, for rivals and for the right scores.
        scans: how many names of scans there are.
        places: the files and folders behind these names, each once.
    """

    name: str
    nodules: Sequence[Nodule]
    cases: Sequence[Case]
    scans: int
    places: Sequence[Path]


def phantom_nodules(
    folder: Path, scans: int, syntax: str | None, seed: int, tell: Callable[[str], None]
) -> list[Nodule]:
    """Nodules of synthetic chests, written into `folder` as that many DICOM series, five nodules each.

    A few chests are made, and copied; every copy's nodules are a little beside the others'.
    """
    random = np.random.default_rng(seed)
    nodules: list[Nodule] = []
    made: list[tuple[Path, list[Nodule]]] = []
    for number in range(scans):
        if number < PHANTOMS:
            tell(f"making chest CT {number + 1}")
            worklist = read_worklist(make_worklist(folder, seed + number))
            if syntax is not None:
                compress_series(worklist[0].image_path, syntax)
            made.append((worklist[0].image_path, worklist))
            path = worklist[0].image_path
        else:
            source, worklist = made[number % PHANTOMS]
            path = folder / f"copy-{number}"
            shutil.copytree(source, path)
        nodules += [_moved(nodule, path, number, random) for nodule in worklist]
    return nodules


def known(nodules: Sequence[Nodule], tell: Callable[[str], None]) -> list[_Known]:
    """The first nodules that can be read, with their cases; the others are told.

    Raises:
        WorklistError: CASES_NONE.
    """
    numbered = [replace(nodule, pid="", nodule_id=str(number)) for number, nodule in enumerate(nodules)]
    return [(nodules[int(case.name[1:])], case) for case in cases_of(numbered, MOST_CASES, tell)]


def one_a_scan(found: Sequence[_Known], count: int, names: Path) -> Workload:
    """As many nodules as wanted, each the only one of its scan.

    Args:
        found: see `known`.
        count: rows; what is there is taken again and again.
        names: folder for the links that are the scans' names.
    """
    turns = zip_longest(*_by_scan(found))  # the first nodule of every scan, then the second: neighbours share no scan
    turned = [pair for turn in turns for pair in turn if pair is not None]
    return _workload("one nodule a scan", [[pair] for pair in turned], count, names)


def several_a_scan(found: Sequence[_Known], count: int, most: int, names: Path) -> Workload | None:
    """The same with as many nodules a scan as it has, at most `most`; None where no scan has two."""
    groups = [scan[:most] for scan in _by_scan(found)]
    if max(map(len, groups)) < 2:
        return None
    each = sorted({len(group) for group in groups})
    name = f"{each[0]} nodules a scan" if len(each) == 1 else f"{each[0]} to {each[-1]} nodules a scan"
    return _workload(name, groups, count, names)


def _workload(name: str, groups: Sequence[Sequence[_Known]], count: int, names: Path) -> Workload:
    rows: list[Nodule] = []
    cases: list[Case] = []
    scans = 0
    for group in cycle(groups):
        path = named(group[0][0].image_path, names, scans)
        for nodule, case in group[: count - len(rows)]:
            number = len(rows)
            rows.append(replace(nodule, number=number, nodule_id=f"{nodule.nodule_id}/{number}", image_path=path))
            cases.append(case)
        scans += 1
        if len(rows) == count:
            break
    places = {nodule.image_path.resolve(): None for nodule in rows}
    return Workload(name, rows, cases, scans, list(places))


def named(place: Path, names: Path, number: int) -> Path:
    """A new name for a folder or a file; a file keeps its own and what lies beside it, since formats may ask for it."""
    names.mkdir(parents=True, exist_ok=True)
    link, place = names / f"{number:05d}", place.resolve()
    link.symlink_to(place if place.is_dir() else place.parent, target_is_directory=True)
    return link if place.is_dir() else link / place.name


def _by_scan(found: Sequence[_Known]) -> list[list[_Known]]:
    scans: dict[tuple[Path, str], list[_Known]] = {}
    for nodule, case in found:
        scans.setdefault((nodule.image_path, nodule.series_uid), []).append((nodule, case))
    return list(scans.values())


def _moved(nodule: Nodule, path: Path, scan: int, random: np.random.Generator) -> Nodule:
    assert nodule.center is not None
    x, y, z = (np.round(np.array(nodule.center) + random.uniform(-FARTHEST_MM, FARTHEST_MM, 3), 3)).tolist()
    columns = nodule.columns | dict(zip(("coordX", "coordY", "coordZ"), (str(x), str(y), str(z)), strict=True))
    pid = f"P{scan:03d}"
    return replace(nodule, pid=pid, columns=columns | {"pid": pid}, image_path=path, center=(x, y, z))


def files_of(places: Sequence[Path]) -> Iterator[Path]:
    """Every file of some folders and files."""
    for place in places:
        yield from (path for path in sorted(place.rglob("*")) if path.is_file()) if place.is_dir() else (place,)
