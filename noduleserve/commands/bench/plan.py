"""`noduleserve bench plan`: how many cards, cores and megabits a night takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .keeping import OutOption, show_and_keep


def bench_plan(
    scans: Annotated[float, typer.Option(min=1, help="Scans of a night.")],
    hours: Annotated[float, typer.Option(min=0.1, help="That the night has.")],
    nodules_a_scan: Annotated[float, typer.Option(min=0.01, help="On average.")] = 2.5,
    used: Annotated[float, typer.Option(min=0.05, max=1, help="Share of the hours that is planned with.")] = 0.7,
    card: Annotated[str, typer.Option(help='A GPU, such as L4 or "H100 SXM"; default: the CPU.')] = "",
    precision: Annotated[str, typer.Option(help="Of the card: fp32, tf32, fp16, bf16, int8 or fp8.")] = "fp16",
    efficiency: Annotated[float, typer.Option(min=0.01, max=1, help="Share of the card's bound, assumed.")] = 0.3,
    record: Annotated[
        list[Path] | None, typer.Option(help="Folder of bench serving, night or roofline, several times: its figures.")
    ] = None,
    out: OutOption = None,
) -> None:
    """A night's cards or cores, readers, network and disk, each figure with what it rests on (benchmarks/model.md).

    Without records the constants are those of one machine of two cores and of five folds of ViT-B/32.

    Example:

        noduleserve bench plan --scans 2000 --nodules-a-scan 2.5 --hours 8 --card L4
    """
    from noduleserve.benchmarks.planning import THIS_MACHINE, Encoding, Night, plan_tables, warnings_of
    from noduleserve.benchmarks.planning_records import with_records
    from noduleserve.benchmarks.record.files import read_record
    from noduleserve.benchmarks.record.recording import Recording
    from noduleserve.benchmarks.roofline.cards import BYTES

    known = next((name for name in BYTES if name == precision), None)
    if known is None:
        raise typer.BadParameter(f"{precision} is none of {', '.join(BYTES)}.")
    night, encoding = Night(scans, nodules_a_scan, hours, used), Encoding(card, known, efficiency)
    constants = with_records(THIS_MACHINE, [read_record(folder) for folder in record or ()])
    parameters = {"scans": scans, "nodules_a_scan": nodules_a_scan, "hours": hours, "used": used, "card": card or "CPU"}
    with Recording("plan", parameters) as recording:
        for table in plan_tables(night, encoding, constants):
            recording.table(table)
        for warning in warnings_of(encoding):
            recording.remark(warning)
    show_and_keep(recording.record, out)
