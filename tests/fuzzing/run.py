"""Damaged series by the thousand: each must end in a score's nine views or in a code.

    python tests/fuzzing/run.py --cases 20000 --first 100000

Cases run in a process of their own, which is held to a time and an amount of memory for each; when it dies, the case is
a failure and the next ones go on in a new process. A case is a number; `--first N --cases 1` runs it again.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a script; pytest has it already

import numpy as np
from fuzzing.mutations import damaged
from fuzzing.series import CENTER, write_all

from noduleserve.ct.doubt import check_surroundings
from noduleserve.ct.open_volume import open_volume
from noduleserve.errors import NoduleserveError
from noduleserve.preprocessing import BadRequest, required_box, views_of_request

SECONDS = 10  # for one case; an undamaged one takes a hundredth
GROWTH_MB = 200  # of the process's largest size by one case
_READY = "ready\n"
ADDRESS_SPACE = 6 << 30  # so that a runaway case ends before the machine does


@dataclass(frozen=True)
class Case:
    """What became of one damaged series.

    Attributes:
        number: seed of the damage.
        encoding: of the series.
        kind: of damage.
        end: "views", or a code; "CRASH" where the process died, "SURPRISE ..." where an error was nobody's code.
        megabytes: by which the process's largest size grew.
    """

    number: int
    encoding: str
    kind: str
    end: str
    megabytes: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether this is a defect."""
        return self.end == "CRASH" or self.end.startswith("SURPRISE") or self.megabytes > GROWTH_MB


def run(first: int, count: int) -> Iterator[Case]:
    """Run cases in processes that may die."""
    number, end = first, first + count
    while number < end:
        line = [sys.executable, __file__, "--child", "--first", str(number), "--cases", str(end - number)]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
            assert child.stdout is not None
            if child.stdout.readline() != _READY:
                raise RuntimeError(f"the process did not begin; see for yourself: {shlex.join(line)}")
            for text in child.stdout:
                case = Case(**json.loads(text))
                number = case.number + 1
                yield case
        if number < end:
            yield Case(number, "?", "?", "CRASH")
            number += 1


def _child(first: int, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    with tempfile.TemporaryDirectory() as name:
        series = sorted(write_all(Path(name)).items())
        print(_READY, end="", flush=True)
        for number in range(first, first + count):
            encoding, folder = series[number % len(series)]
            signal.alarm(SECONDS)  # its default is the end of the process
            print(json.dumps(asdict(_case(number, encoding, folder))), flush=True)
            signal.alarm(0)


def _case(number: int, encoding: str, folder: Path) -> Case:
    copy = folder.with_name("damaged")
    shutil.copytree(folder, copy)
    files = sorted(copy.iterdir())
    # One file of the series, or each of them alike: what all slices agree in is believed more easily.
    hit = files if number % 3 == 0 else [files[number % len(files)]]
    kind = ""
    for path in hit:
        kind, data = damaged(number, path.read_bytes())
        path.write_bytes(data)
    before = _largest_mb()
    end = _end(copy)
    shutil.rmtree(copy)
    return Case(number, encoding, kind, end, round(_largest_mb() - before, 1))


def _end(folder: Path) -> str:
    """What scoring a nodule of a series comes to, all but the server."""
    try:
        volume = open_volume(folder)
        box = required_box(volume.geometry, CENTER)
        voxels = volume.read_box(box)
        check_surroundings(voxels, box, volume.geometry, CENTER)
        views = views_of_request(voxels, box.start, volume.geometry.shape, volume.geometry.affine, CENTER)
    except (NoduleserveError, BadRequest) as error:
        return error.code
    except Exception as error:
        return f"SURPRISE {type(error).__name__}: {str(error)[:200]}"
    # A cubic spline of values within 0..1 may reach a little beyond them.
    fine = views.shape == (9, 50, 50) and bool((np.abs(views - 0.5) < 1.5).all())
    return "views" if fine else "SURPRISE views that are none"


def _largest_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, default=2000, help="how many")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.first, options.cases)
        return
    ends: Counter[str] = Counter()
    failures = []
    for case in run(options.first, options.cases):
        ends[case.end[:60]] += 1
        if case.failed:
            failures.append(case)
            print(case)
    for end, number in ends.most_common():
        print(f"{number:7} {end}")
    print(f"{len(failures)} of {options.cases} failed")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
