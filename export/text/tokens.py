"""The length of prompts in the tokens of CLIP's text tower, which reads 77 and drops the rest."""

from __future__ import annotations

from typing import Protocol

from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint.layout import CONTEXT

from .features import Features


class TokenCounter(Protocol):
    """What counts tokens: the model itself, or its tokenizer alone."""

    def token_count(self, prompt: str) -> int:
        """Tokens of a prompt with start and end, uncut."""


class ClipTokens:
    """CLIP's tokenizer without a model."""

    def __init__(self) -> None:
        """Load the vocabulary.

        Raises:
            ModuleNotFoundError: open_clip is not installed.
        """
        from open_clip import SimpleTokenizer

        self._tokenizer = SimpleTokenizer(context_length=CONTEXT)

    def token_count(self, prompt: str) -> int:
        """Tokens of a prompt with start and end, uncut."""
        return len(self._tokenizer.encode(prompt)) + 2


def require_short_prompts(features: Features, tokens: TokenCounter) -> None:
    """Refuse a prompt that CLIP would cut off (PROMPT_TOO_LONG)."""
    for feature, value, prompts in features.values():
        for prompt in prompts:
            if (count := tokens.token_count(prompt)) > CONTEXT:
                raise CheckpointError(
                    "PROMPT_TOO_LONG",
                    f"A prompt of {feature!r}, {value!r} has {count} tokens; CLIP reads {CONTEXT} and drops the rest.",
                    "Shorten it.",
                )
