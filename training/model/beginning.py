"""First weights of an image tower that is trained from nothing, taken from the pictures it will see.

Drawn at random, the patch convolution answers to little but a patch's brightness, and places mean nothing: a small
tower needs most of its training to find both out. The principal components of the patches, each scaled to the same
spread, and sines and cosines of the place are a better beginning of the same network.
"""

from __future__ import annotations

import torch

from .network import NoduleClip

_FLOOR = 0.03  # of the largest component's spread: what varies less is noise, and is not scaled up further
_MOST_PATCHES = 20_000
_LONGEST = 100.0  # ratio of the longest to the shortest period of sines


@torch.no_grad()
def begin_image_tower(network: NoduleClip, views: torch.Tensor, seed: int) -> None:
    """Set the patch convolution and the positions of the patches.

    Args:
        network: changed in place.
        views: of nodules that it will be trained on, float32 [M, 50, 50], 0..1.
        seed: of the mixture of components and of which patches are looked at.
    """
    tower = network.clip.visual
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        patches = network.patches_of(views)
        patches = patches[torch.randperm(len(patches))[:_MOST_PATCHES]]
        kernels = _components(patches, tower.conv1.weight.shape[0])
    # The three channels are alike: each has a third of the kernel, in units of its own standardised values.
    tower.conv1.weight.copy_(network.channel_kernels(kernels))
    places = tower.positional_embedding
    places[1:] = _places(round((len(places) - 1) ** 0.5), places.shape[1])


def _components(patches: torch.Tensor, count: int) -> torch.Tensor:
    """Whitening of patches [P, pixels], mixed: [count, pixels]."""
    centred = patches - patches.mean(dim=0)
    _, sizes, directions = torch.svd_lowrank(centred, min(count, *centred.shape), niter=4)
    spreads = sizes / len(centred) ** 0.5
    whitening = directions / spreads.clamp(min=spreads[0] * _FLOOR)
    mixture, _ = torch.linalg.qr(torch.randn(count, count))  # a token's numbers are then all of the same size
    return mixture[:, : whitening.shape[1]] @ whitening.T


def _places(side: int, width: int) -> torch.Tensor:
    """Sines and cosines of each patch's row and column, [side * side, width]; width is a multiple of 4."""
    speeds = _LONGEST ** -torch.linspace(0, 1, width // 4)
    places = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    row, column = (place.flatten()[:, None] * speeds for place in places)
    return torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=1)
