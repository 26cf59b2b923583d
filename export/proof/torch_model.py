"""The model in PyTorch on open_clip: the yardstick of the parity proof, and the text tower of the text bank.

It shares no code with the ONNX graph: views go through it as nine pictures of three channels, fold by fold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch.nn import functional as F

from noduleserve.export.checkpoint import State
from noduleserve.export.checkpoint.layout import CONTEXT, HEAD_WIDTH, IMAGE_SIZE, Dimensions
from noduleserve.export.encoder.encoder_graph import CLIP_MEAN, CLIP_STD


class TorchModel:
    """One fold at a time in eager mode, float32, on the CPU."""

    def __init__(self, dimensions: Dimensions) -> None:
        self._clip = _empty_clip(dimensions)
        self._tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
        self._state: dict[str, torch.Tensor] = {}

    def load(self, fold: State) -> None:
        """Take on one fold's weights."""
        self._state = {key: torch.from_numpy(np.asarray(value)) for key, value in fold.items()}
        self._clip.load_state_dict(_open_clip_keys(self._state), assign=True)

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
        clip = self._clip.encode_text(self._tokenizer(list(prompts)))
        projected = self._linear("semantic_projection.projection", clip)
        mixed = projected + self._linear("semantic_projection.fc", F.gelu(projected))
        weight, bias = (self._state[f"semantic_projection.layer_norm.{part}"] for part in ("weight", "bias"))
        return F.normalize(F.layer_norm(mixed, weight.shape, weight, bias), dim=-1).numpy()

    def token_count(self, prompt: str) -> int:
        """Tokens of a prompt with start and end, uncut; CLIP reads 77."""
        return len(self._tokenizer.encode(prompt)) + 2

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._state[f"{name}.weight"], self._state[f"{name}.bias"])


def _empty_clip(dimensions: Dimensions) -> CLIP:
    image, text = dimensions.image, dimensions.text
    with torch.device("meta"):  # no memory and no random numbers for weights that `load` replaces
        model = CLIP(
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
    # The causal mask is not part of a state, so nothing would ever fill it.
    model.register_buffer("attn_mask", torch.full((CONTEXT, CONTEXT), float("-inf")).triu_(1), persistent=False)
    return model.eval()


def _open_clip_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The published keys in open_clip's names; q, k and v become one matrix there."""
    renamed: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if key.startswith(("image_projection.", "semantic_projection.", "classifier_")):
            continue
        key = key.replace("vision_model.", "visual.").replace(".attn.proj.", ".attn.out_proj.")
        if ".attn.q_proj." in key:
            published = key.replace("visual.", "vision_model.")
            parts = [state[published.replace("q_proj", f"{p}_proj")] for p in "qkv"]
            renamed[key.replace("q_proj.", "in_proj_")] = torch.cat(parts)
        elif ".attn.k_proj." not in key and ".attn.v_proj." not in key:
            renamed[key] = value
    return renamed
