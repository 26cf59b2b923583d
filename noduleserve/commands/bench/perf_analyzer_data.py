"""`noduleserve bench perf-analyzer-data`: real nodules for NVIDIA's perf_analyzer."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from noduleserve.release import Release

from ..console import err


def bench_perf_analyzer_data(
    release: Annotated[Path, typer.Argument(help="The release that will be served.")],
    worklist: Annotated[Path | None, typer.Option(help="Nodules of your own; default: the phantom's.")] = None,
    out: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("nodules.json"),
    count: Annotated[int, typer.Option(min=1, help="Different nodules, at most; some 5 MB each.")] = 20,
    check: Annotated[
        bool, typer.Option(help="Serve RELEASE once, and have perf_analyzer hold every answer to its bits.")
    ] = False,
    server: Annotated[str, typer.Option(help="host:port of gRPC, in the command lines that are printed.")] = (
        "127.0.0.1:8001"
    ),
) -> None:
    """Write real nodules as perf_analyzer's --input-data, and print the command lines that use them.

    perf_analyzer is NVIDIA's load generator for Triton; it comes with the container tritonserver:YY.MM-py3-sdk, or by
    `pip install perf-analyzer` where glibc is 2.38 or newer.

    Example:

        noduleserve bench perf-analyzer-data releases/may --worklist tonight.csv --out nodules.json --check
    """
    from noduleserve.benchmarks.perf_analyzer import answers_of, commands, write_input_data
    from noduleserve.benchmarks.rivals.cases import cases_from

    opened = Release.open(release)
    cases = cases_from(worklist, count, err.print)
    with answers_of(opened) if check else nullcontext() as answers:
        write_input_data(out, cases, answers)
    checked = f"; every answer must be that of {opened.id}, bit for bit" if check else ""
    err.print(f"{out}: {len(cases)} nodules, {out.stat().st_size / 1e6:.0f} MB{checked}")
    for what, line in commands(out, server, checked=check):
        print(f"# {what}\n{line}")
