"""What vendors say of their cards, and what processors' instructions can do: numbers of data sheets, not measured.

Rates are of dense products; data sheets put twice as much in the same cell "with sparsity", which no encoder here has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8", "fp8"]


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        name: as sold.
        tera: of each precision that it has, 10^12 dense operations a second.
        gb_per_s: 10^9 bytes a second of its memory.
        memory_gb: of it.
        watts: it may draw.
        source: the data sheet.
    """

    name: str
    tera: dict[Precision, float]
    gb_per_s: float
    memory_gb: int
    watts: int
    source: str


CARDS = {
    card.name: card
    for card in (
        # Turing: tensor cores for FP16 and INT8 only.
        Card("T4", {"fp32": 8.1, "fp16": 65, "int8": 130}, 320, 16, 70, "NVIDIA T4 Tensor Core GPU datasheet"),
        # Ada: 120/242/485/485 with sparsity.
        Card(
            "L4",
            {"fp32": 30.3, "tf32": 60, "fp16": 121, "bf16": 121, "int8": 242.5, "fp8": 242.5},
            300,
            24,
            72,
            "NVIDIA L4 Tensor Core GPU datasheet",
        ),
        # Ampere: no FP8.
        Card(
            "A10",
            {"fp32": 31.2, "tf32": 62.5, "fp16": 125, "bf16": 125, "int8": 250},
            600,
            24,
            150,
            "NVIDIA A10 Tensor Core GPU datasheet",
        ),
        Card(
            "A100 SXM",
            {"fp32": 19.5, "tf32": 156, "fp16": 312, "bf16": 312, "int8": 624},
            2039,
            80,
            400,
            "NVIDIA A100 Tensor Core GPU datasheet, 80 GB SXM",
        ),
        # 366/733/1466/1466 with sparsity.
        Card(
            "L40S",
            {"fp32": 91.6, "tf32": 183, "fp16": 362, "bf16": 362, "int8": 733, "fp8": 733},
            864,
            48,
            350,
            "NVIDIA L40S GPU datasheet",
        ),
        # 989/1979/3958/3958 with sparsity.
        Card(
            "H100 SXM",
            {"fp32": 67, "tf32": 494.5, "fp16": 989.5, "bf16": 989.5, "int8": 1979, "fp8": 1979},
            3350,
            80,
            700,
            "NVIDIA H100 Tensor Core GPU datasheet, SXM5",
        ),
    )
}
BYTES: dict[Precision, int] = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}


@dataclass(frozen=True)
class Instructions:
    """How a processor multiplies and adds in one precision.

    Attributes:
        precision: of the products.
        flag: of /proc/cpuinfo without which it has no such instruction.
        bits: of a vector register; 0 for AMX, whose tiles are larger.
        what: the instructions, for so many multiply-adds.
        count: of instructions; of AMX, cycles.
        multiplications: of these, which is what bounds a processor that adds on other ports at the same time.
        multiply_adds: that these do.
    """

    precision: str
    flag: str
    bits: int
    what: str
    count: int
    multiplications: int
    multiply_adds: int

    @property
    def gain(self) -> tuple[float, float]:
        """Against FP32 in registers of the same width: if every instruction costs the same, if additions cost nothing.

        A cycle of AMX is held against the two AVX-512 instructions that start in it.
        """
        fp32 = self.bits / 32 if self.bits else 2 * 512 / 32
        return self.multiply_adds / self.count / fp32, self.multiply_adds / self.multiplications / fp32


# Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: what each instruction computes.
INSTRUCTIONS = (
    Instructions("fp32", "fma", 256, "vfmadd", 1, 1, 8),
    Instructions("int8", "avx2", 256, "vpmaddubsw + vpmaddwd + vpaddd", 3, 2, 32),
    Instructions("int8", "avx_vnni", 256, "vpdpbusd", 1, 1, 32),
    Instructions("fp32", "avx512f", 512, "vfmadd", 1, 1, 16),
    Instructions("int8", "avx512_vnni", 512, "vpdpbusd", 1, 1, 64),
    Instructions("bf16", "avx512_bf16", 512, "vdpbf16ps", 1, 1, 32),
    Instructions("bf16", "amx_bf16", 0, "tdpbf16ps (16 cycles)", 16, 16, 16 * 16 * 32),
    Instructions("int8", "amx_int8", 0, "tdpbusd (16 cycles)", 16, 16, 16 * 16 * 64),
)
