"""What can be exported: the targets, the precisions of each, and where each keeps its encoder in a release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from noduleserve.errors import ReleaseError

Target = Literal["embedded", "onnxruntime", "tensorrt"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]

PRECISIONS: dict[str, tuple[str, ...]] = {
    "embedded": ("fp32", "bf16", "int8"),
    "onnxruntime": ("fp32", "fp16", "bf16"),
    "tensorrt": ("fp32", "fp16", "bf16", "int8", "fp8"),
}
TYPED = ("fp16", "bf16")  # precisions that are types of the graph itself
QUANTISED = ("int8", "fp8")
MAX_BATCH = 8


@dataclass(frozen=True)
class Encoding:
    """A target and a precision that go together.

    Attributes:
        target: who runs the encoder.
        precision: of its matrix products.

    Raises:
        ReleaseError: PRECISION_NOT_OFFERED.
    """

    target: Target = "embedded"
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.target not in get_args(Target) or self.precision not in PRECISIONS[self.target]:
            offers = "; ".join(f"{target}: {', '.join(offered)}" for target, offered in PRECISIONS.items())
            raise ReleaseError(
                "PRECISION_NOT_OFFERED",
                f"The target {self.target} has no precision {self.precision}.",
                f"There are {offers}.",
            )

    @property
    def tag(self) -> str:
        """Part of the encoder's id: another target or precision is another encoder."""
        return f"{self.target}/{self.precision}"

    @property
    def graph_file(self) -> str:
        """The encoder's graph, relative to the release."""
        return {
            "embedded": "model_repository/nodule_encoder/1/encoder.onnx",
            "onnxruntime": "model_repository/nodule_encoder/1/model.onnx",
            "tensorrt": "engine/encoder.onnx",
        }[self.target]

    @property
    def slots_tolerance(self) -> float:
        """What a probability may differ, alone against in a batch.

        The embedded encoder takes one nodule at a time. On a GPU another batch size may mean another kernel, whose sums
        round otherwise.
        """
        exact = self.target == "embedded" or self.precision == "fp32"
        return 1e-6 if exact else {"fp16": 2e-3, "bf16": 1e-2}.get(self.precision, 1e-2)
