"""`noduleserve bench roofline`: what the encoder costs, what a machine can do of it, and what is reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from noduleserve.export.targets import Encoding
from noduleserve.release import Release

from ..record.record import Cell, Line, Plot, Record, Table
from ..record.recording import Recording, release_facts
from ..rivals.cases import phantom_cases
from .cards import BYTES, CARDS, INSTRUCTIONS, Card, Precision
from .graph_work import Work, work_of
from .measurement import Measured, Spread, measure

BATCHES = (1, 2, 4, 8, 16, 32)
CARD_BATCH = 8  # the largest that Triton gives the encoder of a release
GIGA = 1e9
_REMARKS = (
    "A multiply-add is two operations. Counted from the release's own graph: the image encoder of every fold.",
    "Bytes: weights once a batch, and each product reads its operands from memory and writes its result there once. "
    "Caches and fused kernels move less, so the intensity is a lower bound.",
    "This machine's rates are measured with ONNX Runtime on products of ViT-B/32's shapes and with numpy's triad, in "
    "the same turns as the encoder: what software reaches here, not the data sheet's. The highest turn is the roof; a "
    "share near or above 100 % says that the machine was busy while the roof was measured, and that it does not count.",
    "Cards: data sheets and the counted work. The bound keeps all but weights, inputs and outputs on the chip; "
    '"unfused" has each product read and write memory, as a runtime without fused attention would. Nothing was '
    "measured on a card.",
    "Without avx512_bf16 or AMX a processor has no product of BF16: it would convert to FP32 first, and gain nothing. "
    "INT8 on AVX2 gains 1.33 to 2 by its instructions; what it gains beyond is FP32 waiting for memory and caches.",
)


def bench_roofline(
    release: Release,
    cards: Sequence[str],
    turns: int = 5,
    views: NDArray[np.float32] | None = None,
    tell: Callable[[str], None] = print,
) -> Record:
    """Count, measure, compare.

    Args:
        release: of any target; its encoder is run where the target is `embedded`.
        cards: names of CARDS.
        turns: how often everything is timed.
        views: of the nodule that the encoder is run on, [1, 9, 50, 50]; by default the phantom's first.
        tell: is called with a line of progress.
    """
    encoding = Encoding(release.manifest["target"], release.manifest["precision"])
    model = onnx.load(str(release.folder / encoding.graph_file))
    works = [work_of(model, batch) for batch in BATCHES]
    del model
    with Recording("roofline", {"release": release_facts(release), "turns": turns, "cards": list(cards)}) as recording:
        measured = measure(release, turns, phantom_cases()[0].views[None] if views is None else views, tell)
        recording.table(work_table(works[0]))
        recording.table(intensity_table(works))
        recording.table(machine_table(measured))
        recording.table(instruction_table(measured))
        if measured.encoders:
            recording.table(reached_table(works[0], measured))
        recording.table(cards_table(works[BATCHES.index(CARD_BATCH)], [CARDS[name] for name in cards]))
        recording.plot(roofline_plot(works, measured, [CARDS[name] for name in cards]))
        for remark in _REMARKS:
            recording.remark(remark)
    return recording.record


def work_table(work: Work) -> Table:
    """Where the operations of one nodule are."""
    parts = [*work.by_part().items(), ("everything else, an operation an element", work.other_flop)]
    rows = [(part, flop / GIGA, 100 * flop / work.flop) for part, flop in parts]
    return Table(
        "work",
        "Operations of a nodule",
        ("part", "work_gflop", "share_percent"),
        [*rows, ("all", work.flop / GIGA, 100.0)],
        keys=("part",),
    )


def intensity_table(works: Sequence[Work], size: int = 4) -> Table:
    """Bytes and operations by batch, numbers of `size` bytes."""
    rows = [
        (
            work.nodules,
            work.flop / work.nodules / GIGA,
            size * work.weight_elements / 1e6,
            work.usual_bytes(size) / work.nodules / 1e6,
            work.least_bytes(size) / work.nodules / 1e6,
            work.flop / work.usual_bytes(size),
            work.flop / work.least_bytes(size),
        )
        for work in works
    ]
    columns = ("batch", "a_nodule_gflop", "weights_mb", "a_nodule_mb", "a_nodule_at_least_mb")
    return Table(
        "intensity",
        f"Bytes of a nodule and operations a byte, by batch; numbers of {size} bytes",
        (*columns, "operations_a_byte", "operations_a_byte_at_most"),
        rows,
        keys=("batch",),
    )


def machine_table(measured: Measured) -> Table:
    """What this machine can do, 10^9 a second."""
    units = {"fp32": "operations of FP32 products", "int8": "operations of INT8 products", "triad": "bytes of a triad"}
    rows: list[tuple[Cell, ...]] = []
    for kind, threads in measured.peaks:
        rows.append((units[kind], threads, *(rate / GIGA for rate in measured.peak(kind, threads))))
    return Table(
        "machine",
        "This machine's limits, measured: 10^9 a second",
        ("what", "threads", "median", "lowest", "highest"),
        rows,
        keys=("what", "threads"),
        better={"median": "higher"},
    )


def instruction_table(measured: Measured) -> Table:
    """What instructions could gain over FP32, and what is gained here, by one thread and by all."""
    rows: list[tuple[Cell, ...]] = [
        (way.precision, way.what, way.flag, way.flag in measured.flags, *way.gain) for way in INSTRUCTIONS
    ]
    for threads in sorted({1, measured.cores}):
        gain = measured.gain(threads)
        rows.append(("int8", f"measured here, threads: {threads}, median {gain.median:.3g}", "", True, *gain[1:]))
    return Table(
        "instructions",
        "What instructions can gain over FP32 in registers of the same width, and what is measured",
        ("precision", "instructions", "processor_flag", "here", "times_fp32_at_least", "times_fp32_at_most"),
        rows,
    )


def reached_table(work: Work, measured: Measured) -> Table:
    """The encoder against the products and the memory of this machine."""
    rows = []
    for precision, rates in measured.encoders.items():
        speed, share = Spread.of(rates), measured.share(precision, work.flop)
        kind = precision if precision == "int8" else "fp32"
        bytes_of = work.usual_bytes(1 if precision == "int8" else 4)
        rows.append(
            (
                precision,
                *speed,
                speed.median * work.flop / GIGA,
                100 * share.median,
                f"{100 * share.low:.3g}..{100 * share.high:.3g} %",
                measured.roof(kind) / work.flop,
                measured.roof("triad") / bytes_of,
            )
        )
    return Table(
        "reached",
        "The encoder alone on this machine, one nodule at a time, all cores",
        (
            *("precision", "median_nodules_per_s", "lowest_nodules_per_s", "highest_nodules_per_s"),
            *("reached_gflops", "of_the_products_percent", "range"),
            *("products_allow_nodules_per_s", "memory_allows_nodules_per_s"),
        ),
        rows,
        keys=("precision",),
        better={"median_nodules_per_s": "higher", "of_the_products_percent": "higher"},
    )


def bounds(work: Work, card: Card, precision: Precision) -> tuple[float, float]:
    """Nodules a second that a card allows at most, and at most where each product goes through its memory.

    Raises:
        KeyError: the card has no such precision.
    """
    compute = card.tera[precision] * 1e12 / work.flop * work.nodules
    least, usual = (
        card.gb_per_s * GIGA / moved * work.nodules
        for moved in (work.least_bytes(BYTES[precision]), work.usual_bytes(BYTES[precision]))
    )
    return min(compute, least), min(compute, usual)


def cards_table(work: Work, cards: Sequence[Card]) -> Table:
    """The bounds of cards."""
    rows = [
        (card.name, precision, card.tera[precision], card.gb_per_s, card.watts, *bounds(work, card, precision))
        for card in cards
        for precision in card.tera
    ]
    columns = ("card", "precision", "peak_teraflops", "memory_gb/s", "power_w")
    return Table(
        "cards",
        f"What cards could do at most by their data sheets, in batches of {work.nodules}: bounds, not measurements",
        (*columns, "bound_nodules_per_s", "unfused_nodules_per_s"),
        rows,
        keys=("card", "precision"),
    )


def roofline_plot(works: Sequence[Work], measured: Measured, cards: Sequence[Card]) -> Plot:
    """Operations a byte against operations a second: roofs, and the encoder below this machine's."""
    byte = [2.0**power for power in range(-1, 13)]
    lines = [_roof("this machine, FP32", measured.roof("fp32"), measured.roof("triad"), byte)]
    lines += [_roof(f"{c.name}, FP16", c.tera["fp16"] * 1e12, c.gb_per_s * GIGA, byte) for c in cards]
    place = [work.flop / work.usual_bytes(4) for work in works]
    top = max(line.y[-1] for line in lines)
    lines.append(Line(f"the encoder in FP32, batch 1 and {works[-1].nodules}", [place[0], place[-1]], [top, top]))
    if "fp32" in measured.encoders:
        reached = Spread.of(measured.encoders["fp32"]).median * works[0].flop / GIGA
        lines.append(Line("the encoder here, FP32", [place[0]], [reached]))
    return Plot(
        "roofline",
        "What limits the encoder",
        "operations a byte",
        "10^9 operations a second",
        lines,
        x_log=True,
        y_log=True,
    )


def _roof(name: str, operations: float, memory: float, byte: Sequence[float]) -> Line:
    return Line(name, byte, [min(operations, memory * x) / GIGA for x in byte])
