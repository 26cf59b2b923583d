"""The network of the method: CLIP's towers, the heads that make a nodule's embedding of views and of a report.

It is the network that an export reads and serves: the names of its weights are the published keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from torch import nn
from torch.nn import functional as F

from noduleserve.export.checkpoint.clip_names import HEADS, open_clip_name
from noduleserve.export.checkpoint.layout import Dimensions
from noduleserve.export.encoder.encoder_graph import CLIP_MEAN, CLIP_STD, resize_matrix

from .towers import Towers, clip_of

CLASSES = 2  # no cancer, cancer
LARGEST_LOG_SCALE = 4.6052  # ln 100, as the text bank clips it


@dataclass(frozen=True)
class Seen:
    """What the image branch makes of M views of N nodules.

    Attributes:
        pooled: weighted sum over the views of each nodule, [N, out]; its direction is the embedding.
        weights: of the views, [N, V], 0 where there is no view.
        views: what is pooled, [M, out].
        places: the image tower's last tokens of the patches, [M, patches, width].
    """

    pooled: torch.Tensor
    weights: torch.Tensor
    views: torch.Tensor
    places: torch.Tensor


class ImageProjection(nn.Module):
    """The features of a nodule's views to one embedding."""

    def __init__(self, embed: int, out: int) -> None:
        super().__init__()
        self.projector = nn.Sequential(nn.Linear(embed, out), nn.ReLU())
        self.attention = nn.Sequential(nn.Linear(out, out // 2), nn.Tanh(), nn.Linear(out // 2, 1))

    def forward(self, hidden: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention pooling over the views that are there.

        Args:
            hidden: what the projector makes of CLIP's features, [M, out], of the views that are there, nodule after
                nodule.
            present: bool [N, V], M of them true.

        Returns:
            Weighted sum over the views [N, out], whose direction is the embedding; the weights [N, V], 0 where there
            is no view.
        """
        scores = hidden.new_full(present.shape, -math.inf, dtype=torch.float32)
        scores = scores.masked_scatter(present, self.attention(hidden).squeeze(-1).float())
        weights = scores.softmax(dim=-1)
        by_view = hidden.new_zeros((*present.shape, hidden.shape[-1])).masked_scatter(present.unsqueeze(-1), hidden)
        return (weights.unsqueeze(-1) * by_view.float()).sum(dim=1), weights


class SemanticProjection(nn.Module):
    """The features of a report to its embedding."""

    def __init__(self, embed: int, out: int) -> None:
        super().__init__()
        self.projection = nn.Linear(embed, out)
        self.fc = nn.Linear(out, out)
        self.layer_norm = nn.LayerNorm(out)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[N, embed] -> L2-normalised [N, out]."""
        projected = self.projection(features)
        return F.normalize(self.layer_norm(projected + self.fc(F.gelu(projected))).float(), dim=-1)


class NoduleClip(nn.Module):
    """CLIP with the heads of the method.

    Attributes:
        clip: open_clip's CLIP with q, k and v apart; its `logit_scale` is the logarithm of 1 / temperature.
        dimensions: of towers and heads.
    """

    def __init__(self, towers: Towers, seed: int, temperature: float = 0.07) -> None:
        """Begin with the towers and with heads that are drawn.

        Args:
            towers: copied; heads that come with them are taken over, temperature included.
            seed: of the heads; the random numbers of the caller are left as they are.
            temperature: of the contrast.
        """
        super().__init__()
        self.dimensions: Dimensions = towers.dimensions
        embed, out = self.dimensions.embed, self.dimensions.out
        self.clip: CLIP = clip_of(towers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.image_projection = ImageProjection(embed, out)
            self.semantic_projection = SemanticProjection(embed, out)
            self.classifier_image = nn.Linear(out, CLASSES)
            self.classifier_text = nn.Linear(out, CLASSES)
        with torch.no_grad():
            self.clip.logit_scale.fill_(math.log(1 / temperature))
        if towers.heads:
            self.load_published(towers.heads)
        self._resize = nn.Buffer(torch.from_numpy(resize_matrix()), persistent=False)
        self._mean, self._std = (
            nn.Buffer(torch.tensor(v, dtype=torch.float32).reshape(1, 3, 1, 1), persistent=False)
            for v in (CLIP_MEAN, CLIP_STD)
        )

    def load_published(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Take on weights by the published keys; not for a network that has adapters."""
        own = self.state_dict()
        for key, value in state.items():
            target = own[key if key.startswith(HEADS) else f"clip.{open_clip_name(key)}"]
            target.copy_(torch.from_numpy(np.array(value)).reshape(target.shape))

    def encode_views(self, views: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Views to embeddings.

        Args:
            views: float32 [M, 50, 50], 0..1: those that are there, nodule after nodule.
            present: bool [N, V], M of them true; at least one in each row.

        Returns:
            L2-normalised embedding [N, out]; the views' weights [N, V].
        """
        seen = self.see(views, present)
        return F.normalize(seen.pooled, dim=-1), seen.weights

    def see(self, views: torch.Tensor, present: torch.Tensor) -> Seen:
        """`encode_views` with all that leads to the embedding."""
        features, places = self._image_features(views)
        hidden = self.image_projection.projector(features)
        pooled, weights = self.image_projection(hidden, present)
        return Seen(pooled, weights, hidden, places)

    def _image_features(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """CLIP's image tower, [M, 50, 50] -> [M, embed], and its last tokens of the patches."""
        tower = self.clip.visual
        x = self._patches(views)
        start = tower.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = tower.ln_pre(torch.cat([start, x], dim=1) + tower.positional_embedding.to(x.dtype))
        x = tower.transformer(x)
        return tower.ln_post(x[:, 0]) @ tower.proj, x[:, 1:]

    def _patches(self, views: torch.Tensor) -> torch.Tensor:
        """Resized, grey as three channels, standardised and cut into patches: [M, 50, 50] -> [M, patches, width].

        The three channels are alike, so that the patch convolution is one of a single channel, and a shift.
        """
        pixels = self._pixels(views)
        kernel = self.clip.visual.conv1.weight / self._std
        shift = -(kernel * self._mean).sum(dim=(1, 2, 3))
        patches = F.conv2d(pixels.unsqueeze(1), kernel.sum(dim=1, keepdim=True), shift, stride=kernel.shape[-1])
        return patches.flatten(2).transpose(1, 2)

    def _pixels(self, views: torch.Tensor) -> torch.Tensor:
        """[M, 50, 50] -> [M, 224, 224], 0..1."""
        return self._resize @ views @ self._resize.T

    def patches_of(self, views: torch.Tensor) -> torch.Tensor:
        """The pixels of every patch, 0..1, [M, 50, 50] -> [M * patches, pixels]."""
        side = self.clip.visual.conv1.kernel_size[0]
        cut = F.unfold(self._pixels(views).unsqueeze(1), side, stride=side)
        return cut.transpose(1, 2).flatten(0, 1)

    def channel_kernels(self, kernels: torch.Tensor) -> torch.Tensor:
        """Weights of the patch convolution that answers as `kernels` do to pixels of 0..1, but for a constant.

        Args:
            kernels: [width, pixels of a patch].

        Returns:
            [width, 3, side, side]: a third for each of the three channels, which are alike.
        """
        side = self.clip.visual.conv1.kernel_size[0]
        return kernels.reshape(-1, 1, side, side) * self._std / 3

    def encode_texts(self, tokens: torch.Tensor) -> torch.Tensor:
        """Texts to L2-normalised embeddings.

        A token sees only those before it, so that what comes after the longest text may be cut off.

        Args:
            tokens: int64 [N, L], L up to 77, each row with its end token.
        """
        clip, length = self.clip, tokens.shape[1]
        hidden = clip.token_embedding(tokens) + clip.positional_embedding[:length]
        hidden = clip.transformer(hidden, attn_mask=clip.attn_mask[:length, :length])
        ends = tokens.argmax(dim=-1)  # the end token has the highest number
        features = clip.ln_final(hidden[torch.arange(len(ends), device=ends.device), ends]) @ clip.text_projection
        return self.semantic_projection(features)

    @property
    def scale(self) -> torch.Tensor:
        """What a cosine is multiplied with: 1 / temperature, at most 100."""
        return self.clip.logit_scale.clamp(max=LARGEST_LOG_SCALE).exp()
