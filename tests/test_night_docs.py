"""docs/night.md: its commands run as they stand, its units are ones that systemd takes, its tables are of this code."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest
from serving import COMMAND, read_rows

from noduleserve.client.options import EngineOptions
from noduleserve.journal.contents import Contents
from noduleserve.progress import Tally
from noduleserve.server.process import Endpoints

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLES = REPOSITORY / "docs" / "examples"
PAGE = (REPOSITORY / "docs" / "night.md").read_text()
BLOCKS = re.findall(r"^<!-- run -->\n```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
UNITS = ("noduleserve-serve.service", "noduleserve-night.service", "noduleserve-night.timer")


class Done(NamedTuple):
    """What came of the page's commands, run one after the other in an empty folder."""

    folder: Path
    status: int
    printed: str
    errors: str


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The page's blocks in one shell, on free ports; a command that fails ends it."""
    for needed in ("bash", "curl"):
        if not shutil.which(needed):
            pytest.skip(f"there is no {needed}")
    for package in ("sklearn", "matplotlib"):
        pytest.importorskip(package, reason=f"`noduleserve evaluate` needs {package}")
    folder = tmp_path_factory.mktemp("night")
    at = Endpoints(grpc=0, http=0, metrics=0).resolved()
    ports = {"8001": at.grpc, "8000": at.http, "8002": at.metrics}
    script = "\n".join(["set -euo pipefail", *BLOCKS]).replace("~/noduleserve", str(REPOSITORY))
    assert all(port in script for port in ports)
    script = re.sub(r"\b800[012]\b", lambda usual: str(ports[usual[0]]), script)
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "printed").open("w+") as printed, (folder / "errors").open("w+") as errors:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env=os.environ | {"PATH": path},
            stdout=printed,
            stderr=errors,
            start_new_session=True,
        )
        try:
            status = shell.wait(150)
        finally:
            with contextlib.suppress(ProcessLookupError):  # the server, where a command before its end failed
                os.killpg(shell.pid, signal.SIGTERM)
            shell.wait(30)
    return Done(folder, status, (folder / "printed").read_text(), (folder / "errors").read_text())


def test_the_commands_run(done: Done) -> None:
    assert done.status == 0, (done.printed, done.errors)
    assert "Traceback" not in done.errors
    assert re.findall(r"^exit status (\d+)$", done.printed, re.MULTILINE) == ["137", "3"]
    assert done.printed.endswith("stopped\n")


def test_the_killed_night_is_taken_up(done: Done) -> None:
    counts = re.findall(r"^20 nodules in, 20 out: (\d+) scored, (\d+) failed(?: \((\d+))?", done.printed, re.MULTILINE)
    (scored, failed, resumed), mended, whole = [[int(number or 0) for number in found] for found in counts]
    assert scored + failed == 20 and failed > 0 and resumed > 0
    assert mended == [20, 0, scored]  # what failed was tried again, and nothing else
    assert whole == [20, 0, 0]
    with Contents.open(done.folder / "night" / "results.csv.journal") as journal:
        assert journal.missing == 0 and journal.count == 20


def test_it_comes_to_the_same_as_a_night_that_was_not_killed(done: Done) -> None:
    killed = read_rows(done.folder / "night" / "results.csv")
    whole = read_rows(done.folder / "home" / "nights" / "2026-11-24" / "results.csv")
    for row in (*killed, *whole):
        assert row.pop("outcome_at")
    assert killed == whole
    assert [row["nodule_id"] for row in whole] == [f"N{n}.{p}" for n in range(1, 6) for p in range(1, 5)]
    assert {row["status"] for row in whole} == {"scored"}


def test_every_output_of_the_page_is_there(done: Done) -> None:
    night = done.folder / "night"
    for page in ("report.html", "evaluation.html", "../home/nights/2026-11-24/report.html"):
        assert "<html" in (night / page).read_text()
    assert len((night / "results.jsonl").read_text().splitlines()) == 20
    for database in (night / "screening.sqlite", done.folder / "home" / "screening.sqlite"):
        with contextlib.closing(sqlite3.connect(database)) as connection:
            assert connection.execute("SELECT count(ensemble) FROM last_run").fetchone() == (20,)


def test_the_log_has_the_fields_of_the_page(done: Done) -> None:
    lines = [json.loads(line) for line in (done.folder / "night.log").read_text().splitlines()]
    assert lines[0]["event"] == "start"
    watched = PAGE.split("## What to watch")[1].split("\n## ")[0]
    names = [
        name for row in re.findall(r"^\| (`.*?) \|", watched, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    assert names == list(lines[0]) == ["time", "event", *Tally(0).facts()]


def _defaults() -> Iterator[tuple[str, float]]:
    for option, default in re.findall(r"^\| `--([a-z-]+)` \| (\d+)(?: s| MiB)? \|", PAGE, re.MULTILINE):
        yield option.replace("-", "_"), float(default)


def test_defaults_are_those_of_the_command() -> None:
    options = {field.name: field.default for field in fields(EngineOptions)}
    shown = dict(_defaults())
    assert shown.keys() == {"in_flight", "streams", "read_ahead", "deadline", "retries", "server_wait"}
    shown["read_ahead"] *= 2**20
    assert shown == {name: options[name] for name in shown}
    assert f"| `--priority` | {options['priority']} |" in PAGE


@pytest.mark.parametrize("name", [*UNITS, "night.sh"])
def test_the_page_shows_the_examples_as_they_are(name: str) -> None:
    (shown,) = re.findall(rf"^<!-- examples/{re.escape(name)} -->\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert shown == (EXAMPLES / name).read_text()


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    if not Path("/usr/bin/curl").exists():
        pytest.skip("there is no /usr/bin/curl, which a unit calls")
    for name in UNITS:
        text = (EXAMPLES / name).read_text()
        for installed, here in (("noduleserve serve", f"{COMMAND} serve"), ("night.sh", str(EXAMPLES / "night.sh"))):
            text = text.replace(f"/opt/noduleserve/bin/{installed}", here)
        (tmp_path / name).write_text(text)
    assert _complaints(tmp_path) == []
    night = tmp_path / "noduleserve-night.service"
    night.write_text(night.read_text().replace("Restart=on-failure", "Restart=always"))
    assert len(_complaints(tmp_path)) > 0  # so that no complaint means something


def _complaints(folder: Path) -> list[str]:
    """Of systemd about our units; the machine's own may be at odds."""
    verify = ["systemd-analyze", "verify", "--man=no", *(str(folder / name) for name in UNITS)]
    found = subprocess.run(verify, capture_output=True, text=True, timeout=30, check=False)
    return [line for line in found.stderr.splitlines() if "noduleserve" in line]


def _night(home: Path | str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`night.sh` where there is no server."""
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", EXAMPLES / "night.sh", *arguments],
        env=os.environ | {"PATH": path, "NODULESERVE_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_script_is_one_that_bash_can_read() -> None:
    checked = subprocess.run(["bash", "-n", EXAMPLES / "night.sh"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert os.access(EXAMPLES / "night.sh", os.X_OK)


def test_the_script_tells_what_will_not_mend_itself_from_what_may(tmp_path: Path) -> None:
    assert _night(tmp_path / "nowhere").returncode == 2
    over = _night(tmp_path, NODULESERVE_NIGHT="2020-02-28", NODULESERVE_UNTIL="06:00")
    assert (over.returncode, over.stderr) == (124, "night.sh: the night of 2020-02-28 was over at 06:00\n")
    no_worklist = _night(tmp_path, "--server", "127.0.0.1:9", NODULESERVE_KEEP="0")
    assert no_worklist.returncode == 1 and "[WORKLIST_NOT_FOUND]" in no_worklist.stderr
