"""open_clip's CLIP as a module without weights, and the same with q, k and v of its attentions apart."""

from __future__ import annotations

from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import nn
from torch.nn import functional as F

from .layout import CONTEXT, HEAD_WIDTH, IMAGE_SIZE, Dimensions


def drawn_clip(dimensions: Dimensions) -> CLIP:
    """A CLIP with open_clip's own beginning, drawn from torch's random numbers."""
    image, text = dimensions.image, dimensions.text
    return CLIP(
        dimensions.embed,
        CLIPVisionCfg(
            layers=image.layers,
            width=image.width,
            head_width=HEAD_WIDTH,
            patch_size=dimensions.patch,
            image_size=IMAGE_SIZE,
        ),
        CLIPTextCfg(
            context_length=CONTEXT,
            vocab_size=dimensions.vocabulary,
            width=text.width,
            heads=text.heads,
            layers=text.layers,
        ),
        quick_gelu=True,
    )


def empty_clip(dimensions: Dimensions) -> CLIP:
    """A CLIP on the meta device: no memory, no random numbers, for weights that replace what is there."""
    with torch.device("meta"):
        model = drawn_clip(dimensions)
    # The causal mask is not part of a state, so nothing would ever fill it.
    model.register_buffer("attn_mask", torch.full((CONTEXT, CONTEXT), float("-inf")).triu_(1), persistent=False)
    return model.eval()


def empty_split_clip(dimensions: Dimensions) -> CLIP:
    """`empty_clip` whose attentions are `SplitAttention`, so that every matrix is a Linear layer of its own."""
    model = empty_clip(dimensions)
    for tower in (model.visual.transformer, model.transformer):
        for block in tower.resblocks:
            block.attn = SplitAttention(block.attn.embed_dim)
    return model.eval()


class SplitAttention(nn.Module):
    """Multi-head self-attention with q, k, v and the output projection as four Linear layers, on the meta device."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(width, width, device="meta") for _ in range(4)
        )

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, attn_mask: Any = None, **_: Any
    ) -> tuple[torch.Tensor, None]:
        """Stands in for `nn.MultiheadAttention` with `batch_first`: [batch, tokens, width] -> the same, no weights."""
        parts = ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        q, k, v = (layer(x).unflatten(-1, (self.heads, HEAD_WIDTH)).transpose(1, 2) for layer, x in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None
