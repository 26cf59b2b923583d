"""The model in PyTorch on open_clip: the yardstick of the parity proof, and the text tower of the text bank.

It shares no code with the ONNX graph: views go through it as nine pictures of three channels, fold by fold.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from torch.nn import functional as F

from noduleserve.export.checkpoint import State
from noduleserve.export.checkpoint.clip_module import empty_clip
from noduleserve.export.checkpoint.clip_names import HEADS, packed
from noduleserve.export.checkpoint.layout import CONTEXT, IMAGE_SIZE, Dimensions, is_text
from noduleserve.export.encoder.encoder_graph import CLIP_MEAN, CLIP_STD


class TorchForward:
    """The forward pass of one fold at a time in eager mode, float32, on the CPU; what loads it says whose weights."""

    def __init__(self, clip: CLIP) -> None:
        self._clip = clip
        self._tokenizer = _tokenizer()
        self._state: dict[str, torch.Tensor] = {}  # of the heads

    def _load_heads(self, fold: Mapping[str, NDArray[np.float32]]) -> None:
        self._state = _tensors({key: value for key, value in fold.items() if key.startswith(HEADS)})

    @torch.inference_mode()
    def encode_views(self, views: NDArray[np.float32]) -> tuple[NDArray, NDArray, NDArray]:
        """Nine views to what the graph returns for this fold.

        Args:
            views: [N, 9, 50, 50], 0..1.

        Returns:
            embedding [N, out], view attention [N, 9], logits [N, 2].
        """
        count, per_nodule = views.shape[:2]
        gray = torch.from_numpy(views).reshape(count * per_nodule, 1, *views.shape[2:])
        pixels = F.interpolate(gray, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", align_corners=True)
        mean, std = (torch.tensor(v, dtype=torch.float32).reshape(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
        clip = self._clip.encode_image((pixels.expand(-1, 3, -1, -1) - mean) / std)
        hidden = F.relu(self._linear("image_projection.projector.0", clip)).reshape(count, per_nodule, -1)
        scores = self._linear("image_projection.attention.0", hidden).tanh()
        attention = self._linear("image_projection.attention.2", scores).squeeze(-1).softmax(dim=-1)
        embedding = F.normalize((attention.unsqueeze(-1) * hidden).sum(dim=1), dim=-1)
        logits = self._linear("classifier_image", embedding)
        return embedding.numpy(), attention.numpy(), logits.numpy()

    @torch.inference_mode()
    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Prompts to L2-normalised text embeddings, float32 [P, out]."""
        projected = self._linear("semantic_projection.projection", self._text_features(prompts))
        mixed = projected + self._linear("semantic_projection.fc", F.gelu(projected))
        weight, bias = (self._state[f"semantic_projection.layer_norm.{part}"] for part in ("weight", "bias"))
        return F.normalize(F.layer_norm(mixed, weight.shape, weight, bias), dim=-1).numpy()

    def _text_features(self, prompts: Sequence[str]) -> torch.Tensor:
        """CLIP's text features. A token sees only those before it, so what comes after the longest prompt is cut."""
        clip, tokens = self._clip, self._tokenizer(list(prompts))
        ends = tokens.argmax(dim=-1)  # the end token has the highest number
        length = int(ends.max()) + 1
        hidden = clip.token_embedding(tokens[:, :length]) + clip.positional_embedding[:length]
        hidden = clip.transformer(hidden, attn_mask=clip.attn_mask[:length, :length])
        return clip.ln_final(hidden[torch.arange(len(ends)), ends]) @ clip.text_projection

    def token_count(self, prompt: str) -> int:
        """Tokens of a prompt with start and end, uncut; CLIP reads 77."""
        return len(self._tokenizer.encode(prompt)) + 2

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._state[f"{name}.weight"], self._state[f"{name}.bias"])


class TorchModel(TorchForward):
    """A fold's merged weights on open_clip as it is."""

    def __init__(self, dimensions: Dimensions) -> None:
        super().__init__(empty_clip(dimensions))

    def load(self, fold: State) -> None:
        """Take on one fold's weights."""
        self._load_heads(fold)
        self._clip.load_state_dict(_tensors(packed(fold)), assign=True)


class TextModel(TorchForward):
    """`TorchModel` for texts only: an image tower is not needed, and not looked at."""

    def __init__(self, dimensions: Dimensions) -> None:
        super().__init__(empty_clip(dimensions))

    def load(self, fold: State) -> None:
        """Take on one fold's text tower and its head."""
        text = {key: value for key, value in fold.items() if is_text(key)}
        self._load_heads(text)
        found = self._clip.load_state_dict(_tensors(packed(text)), strict=False, assign=True)
        missing = [key for key in found.missing_keys if not key.startswith("visual.")]
        if missing or found.unexpected_keys:
            raise KeyError(f"the text tower lacks {missing} or has the unknown {found.unexpected_keys}")


@functools.cache
def _tokenizer() -> open_clip.SimpleTokenizer:
    """CLIP's tokenizer; it takes a third of a second to make, and has no state."""
    return open_clip.SimpleTokenizer(context_length=CONTEXT)


def _tensors(state: Mapping[str, NDArray[np.float32]]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}
