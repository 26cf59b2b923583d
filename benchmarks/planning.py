"""A night planned: scans and hours -> cards or cores, readers, network, disk; the formulas are those of model.md.

Every constant carries the command that measured it. What nothing was measured on, such as a card, is a bound of data
sheets times an assumed efficiency, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from noduleserve.errors import BenchmarkError

from .record.record import Cell, Table
from .roofline.cards import BYTES, CARDS, Precision

CUBE_MM = 100.0  # a nodule's cube
SLICE_BYTES = 512 * 512 * 2
HEADER_BYTES = 8192  # of each file, read to find out where it lies


@dataclass(frozen=True)
class Constant:
    """A number that a plan rests on.

    Attributes:
        value: in `unit`.
        unit: of it.
        what: it is.
        source: the command that measured it, and on what; or how it comes about.
    """

    value: float
    unit: str
    what: str
    source: str


_TWO_CORES = "two cores of an AMD EPYC, 2.4 GHz, AVX2"
# Five folds of ViT-B/32; a checkpoint of other towers needs records of its own.
THIS_MACHINE: dict[str, Constant] = {
    "encoder": Constant(4.9, "core seconds a nodule", "encoder on the CPU, FP32", f"bench night, {_TWO_CORES}"),
    "preprocess": Constant(0.00856, "core seconds a nodule", "box to nine views", f"bench preprocessing, {_TWO_CORES}"),
    "read": Constant(
        0.0239, "core seconds a nodule", "series opened, box cut", f"bench preprocessing, {_TWO_CORES}, uncompressed"
    ),
    "around": Constant(
        0.0482,
        "core seconds a nodule",
        "everything else: transport, head, journal; an upper bound",
        "bench soak, 24.8 nodules/s of two cores with a tiny encoder, less reading and views",
    ),
    "journal": Constant(8.4, "kB a nodule", "journal on the disk", "bench soak"),
    "work": Constant(361.4, "GFLOP a nodule", "operations of the encoder", "bench roofline, counted"),
    "moved": Constant(478.0, "million numbers a nodule", "moved in a batch of 8, unfused", "bench roofline, counted"),
    "in_plane": Constant(0.7, "mm", "voxel in the plane", "assumed"),
    "between": Constant(1.25, "mm", "between slices", "assumed"),
    "slices": Constant(300.0, "slices", "of a scan", "assumed"),
}


@dataclass(frozen=True)
class Night:
    """What is to be done.

    Attributes:
        scans: of the night.
        nodules_a_scan: on average.
        hours: that there are.
        used: share of them that is planned with; the rest is for retries, restarts and slow disks.
    """

    scans: float
    nodules_a_scan: float
    hours: float
    used: float = 0.7

    @property
    def nodules(self) -> float:
        """Of the night."""
        return self.scans * self.nodules_a_scan

    @property
    def rate(self) -> float:
        """Nodules a second that must be reached."""
        return self.nodules / (3600 * self.hours * self.used)


@dataclass(frozen=True)
class Encoding:
    """What the encoder runs on.

    Attributes:
        card: a name of CARDS; "" stands for the CPU.
        precision: of the card.
        efficiency: share of the card's bound that is assumed to be reached.
    """

    card: str = ""
    precision: Precision = "fp16"
    efficiency: float = 0.3


def plan_tables(night: Night, encoding: Encoding, constants: Mapping[str, Constant]) -> list[Table]:
    """The plan, and the constants that it rests on.

    Raises:
        BenchmarkError: PLAN_CARD, PLAN_PRECISION.
    """
    return [_plan_table(night, encoding, constants), _constants_table(constants)]


def warnings_of(encoding: Encoding) -> list[str]:
    """What must be known of a plan before anything is bought."""
    if not encoding.card:
        return ["Encoder on the CPU: time grows with the towers; another checkpoint wants a record of its own."]
    return [
        f"NOT MEASURED: nothing has run on {encoding.card}. Its rate is a bound from its data sheet (dense "
        f"{encoding.precision.upper()}, each product through memory) times an ASSUMED efficiency of "
        f"{encoding.efficiency:g}. Measure one card with `noduleserve bench serving` before buying others."
    ]


def card_rate(encoding: Encoding, constants: Mapping[str, Constant]) -> float:
    """Nodules a second of one card: the assumed share of what its products and its memory allow.

    Raises:
        BenchmarkError: PLAN_CARD, PLAN_PRECISION.
    """
    if encoding.card not in CARDS:
        raise BenchmarkError("PLAN_CARD", f"{encoding.card} is not known.", f"There are {', '.join(CARDS)}.")
    card = CARDS[encoding.card]
    if encoding.precision not in card.tera:
        raise BenchmarkError(
            "PLAN_PRECISION", f"{card.name} has no {encoding.precision}.", f"It has {', '.join(card.tera)}."
        )
    products = card.tera[encoding.precision] * 1e12 / (constants["work"].value * 1e9)
    memory = card.gb_per_s * 1e9 / (constants["moved"].value * 1e6 * BYTES[encoding.precision])
    return encoding.efficiency * min(products, memory)


def box_bytes(constants: Mapping[str, Constant]) -> float:
    """Of a nodule's voxels: the cube and a voxel on either side, two bytes each."""
    across = CUBE_MM / constants["in_plane"].value + 2
    return 2 * across**2 * _slices_of_box(constants)


def disk_bytes(night: Night, constants: Mapping[str, Constant]) -> float:
    """Read for a nodule: the slices of its box, and its share of the headers of the whole scan."""
    headers = constants["slices"].value * HEADER_BYTES / night.nodules_a_scan
    return SLICE_BYTES * _slices_of_box(constants) + headers


def _slices_of_box(constants: Mapping[str, Constant]) -> float:
    return min(CUBE_MM / constants["between"].value + 2, constants["slices"].value)


def _plan_table(night: Night, encoding: Encoding, constants: Mapping[str, Constant]) -> Table:
    value = {name: constant.value for name, constant in constants.items()}
    rate = night.rate
    others = [("preprocessing", "preprocess"), ("reading", "read"), ("transport, head, journal", "around")]
    other = sum(value[name] for _, name in others)
    if encoding.card:
        each = card_rate(encoding, constants)
        cards = math.ceil(rate / each)
        encoders: list[tuple[Cell, ...]] = [
            (f"a {encoding.card} in {encoding.precision.upper()}: BOUND, not measured", each, "nodules/s"),
            (f"{encoding.card}, at least", cards, "cards"),
            ("hours that these need, never waiting", night.nodules / (cards * each) / 3600, "hours"),
            ("cores that keep one busy", each * other, "cores"),
        ]
    else:
        encoders = [("encoder on the CPU", rate * value["encoder"], "cores")]
    rows: list[tuple[Cell, ...]] = [
        ("nodules", night.nodules, "nodules"),
        ("rate", rate, "nodules/s"),
        *encoders,
        *((what, rate * value[name], "cores") for what, name in others),
        ("all but the encoder", rate * other, "cores"),
        ("network, client to server", rate * box_bytes(constants) * 8 / 1e6, "Mbit/s"),
        ("disk, read", rate * disk_bytes(night, constants) / 1e6, "MB/s"),
        ("disk, journal of the night", night.nodules * value["journal"] / 1e6, "GB"),
    ]
    return Table("plan", "The plan", ("what", "amount", "unit"), rows, keys=("what",))


def _constants_table(constants: Mapping[str, Constant]) -> Table:
    rows = [(name, c.value, c.unit, c.what, c.source) for name, c in constants.items()]
    return Table("constants", "What it rests on", ("name", "value", "unit", "what", "source"), rows, keys=("name",))
