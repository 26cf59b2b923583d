"""An optimiser for the matrices of transformer blocks: their updates are made nearly orthogonal before they are taken.

A gradient is a few strong directions and many weak ones; an update whose singular values are all about 1 moves along
all of them alike. On the small towers that are trained from nothing it saves most of the epochs. The singular values
are pushed towards 1 by a fixed polynomial of the matrix (Newton-Schulz), in float32: torch's own `Muon` has it in
bfloat16, which most CPUs compute slowly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

_POLYNOMIAL = 3.4445, -4.7750, 2.0315  # of x, x^3, x^5: steep at 0, and within 0.7..1.2 after five rounds
_ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum with decoupled weight decay, for matrices only."""

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float = 0.0, momentum: float = 0.95) -> None:
        """Begin.

        Args:
            params: matrices, or groups of them.
            lr: size of an update's singular values; times sqrt(rows / columns) where there are more rows.
            weight_decay: as of AdamW.
            momentum: share of the running mean of gradients that a step keeps.
        """
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # nothing is evaluated again
        """Move the weights; those without a gradient stay."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[torch.Tensor, torch.Tensor]]] = {}
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - group["momentum"])
                ahead = matrix.grad.lerp(mean, group["momentum"])
                alike.setdefault(matrix.shape, []).append((matrix, ahead))
            for (rows, columns), several in alike.items():  # matrices of one shape in one product
                updates = orthogonalised(torch.stack([ahead for _, ahead in several]))
                size = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (matrix, _), update in zip(several, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=size)


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices with the same singular vectors and singular values of about 1, [N, rows, columns]."""
    a, b, c = _POLYNOMIAL
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x
