"""From nodules to batches: which ones an epoch sees, in which order, varied how.

Every draw has a stream of its own, named by the seed, the fold, the epoch and its place: nothing depends on what was
drawn before, so that a training that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from noduleserve.export.checkpoint.layout import CONTEXT
from noduleserve.export.text.features import Features

from .data.base import Example, Source
from .data.vocabulary import NO_CALCIUM, SCALES

Report = Callable[[Example, np.random.Generator | None], str]
UNKNOWN = -1  # stands for a label, or the value of a feature, that is not known
_AHEAD = 3  # batches that are made before they are asked for
_KNOWN = 10_000  # texts whose tokens are remembered
_ORDER, _EXAMPLE, _PROMPTS, _WEIGHTS = range(4)  # what a stream is for


@dataclass(frozen=True, eq=False)
class Batch:
    """N nodules, M views of them in all.

    Attributes:
        views: float32 [M, 50, 50], nodule after nodule.
        present: bool [N, V], M of them true.
        tokens: of the reports, int64 [N, L].
        classes: share of benign and malignant, float32 [N, 2]; 0 where nothing is known.
        values: share of each value of each semantic feature, float32 [N, S]; 0 in a feature that is not known.
        ratings: readers' mean ratings, whether there is calcium, and the logarithm of the diameter, float32 [N, R]; NaN
            where not known.
        prompts: one of each value's prompts, int64 [S, L], padded to the length of the reports.
    """

    views: torch.Tensor
    present: torch.Tensor
    tokens: torch.Tensor
    classes: torch.Tensor
    values: torch.Tensor
    ratings: torch.Tensor
    prompts: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        parts = (self.views, self.present, self.tokens, self.classes, self.values, self.ratings, self.prompts)
        return Batch(*(part.to(device, non_blocking=True) for part in parts))


@dataclass(frozen=True, eq=False)
class Material:
    """What is learned from.

    Attributes:
        source: the nodules.
        report: what is said of a nodule; its rng draws the wording, None gives the plainest.
        features: the semantic features and their prompts.
        soft: whether shares are the readers', or those of what they say together.
    """

    source: Source
    report: Report
    features: Features
    soft: bool = False

    @cached_property
    def examples(self) -> list[Example]:
        """Of the source."""
        return self.source.examples

    @cached_property
    def groups(self) -> torch.Tensor:
        """For each value the number of its feature, int64 [S]."""
        return torch.tensor(self.features.groups)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """1, 0 or UNKNOWN of each nodule."""
        return np.array([UNKNOWN if e.label is None else e.label for e in self.examples], np.int64)

    @cached_property
    def values(self) -> NDArray[np.int64]:
        """The place among all values of each nodule's value of each feature, [nodules, features], or UNKNOWN."""
        place = {(feature, value): n for n, (feature, value, _) in enumerate(self.features.values())}
        rows = [
            [place.get((feature, example.values.get(feature, "")), UNKNOWN) for feature in self.features.prompts]
            for example in self.examples
        ]
        return np.array(rows, np.int64).reshape(len(rows), len(self.features.prompts))

    @cached_property
    def class_shares(self) -> NDArray[np.float32]:
        """Of benign and malignant, [nodules, 2]; 0 where nothing is known."""
        soft = [e.soft_label if self.soft else e.label for e in self.examples]
        return np.array([(0, 0) if share is None else (1 - share, share) for share in soft], np.float32).reshape(-1, 2)

    @cached_property
    def value_shares(self) -> NDArray[np.float32]:
        """Of each value of each feature, [nodules, S]; 0 in a feature that is not known."""
        shares = np.zeros((len(self.examples), len(self.features.labels)), np.float32)
        for row, example in zip(shares, self.examples, strict=True):
            of = {f: example.shares(f) if self.soft else {example.values.get(f): 1.0} for f in self.features.prompts}
            row[:] = [of[feature].get(value, 0.0) for feature, value, _ in self.features.values()]
        return shares

    @cached_property
    def ratings(self) -> NDArray[np.float32]:
        """Readers' mean ratings, calcium (1 or 0) and the logarithm of the diameter, [nodules, R]; NaN: not known."""
        rows = [
            [
                *(e.ratings.get(name, math.nan) for name in SCALES),
                float(e.ratings["calcification"] < NO_CALCIUM) if "calcification" in e.ratings else math.nan,
                math.log(e.diameter) if e.diameter else math.nan,
            ]
            for e in self.examples
        ]
        return np.array(rows, np.float32).reshape(len(rows), len(SCALES) + 2)

    def rating_scale(self, numbers: NDArray[np.int64]) -> torch.Tensor:
        """Mean and standard deviation of each rating over some nodules, [2, R]; 0 and 1 where there is none."""
        ratings = self.ratings[numbers].astype(np.float64)
        known = np.isfinite(ratings)
        count = np.maximum(1, known.sum(axis=0))
        mean = np.where(known, ratings, 0).sum(axis=0) / count
        spread = np.sqrt((np.where(known, ratings - mean, 0) ** 2).sum(axis=0) / count)
        return torch.tensor(np.array([mean, np.where(spread > 0, spread, 1)]), dtype=torch.float32)


def stream(seed: int, *names: int) -> np.random.Generator:
    """The random numbers of one purpose."""
    return np.random.default_rng([seed, *names])


def torch_seed(seed: int, fold: int, epoch: int) -> int:
    """The seed of torch's own draws (dropout) of an epoch, or of a fold's first weights (epoch -1)."""
    return int(stream(seed, fold, epoch + 1, _WEIGHTS).integers(2**62))


def epoch_order(
    numbers: NDArray[np.int64], labels: NDArray[np.int64], balanced: bool, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The nodules of an epoch, as many as there are.

    Args:
        numbers: of the nodules that may be drawn.
        labels: of these, [len(numbers)]; UNKNOWN where there is none.
        balanced: both classes come equally often, drawn with replacement; nodules without a label keep their share.
            Where a class is missing there is nothing to balance.
        rng: draws.
    """
    kinds = [np.flatnonzero(labels == kind) for kind in (0, 1)]
    if not balanced or not all(len(kind) for kind in kinds):
        return rng.permutation(numbers)
    weights = np.ones(len(numbers))
    known = sum(len(kind) for kind in kinds)
    for kind in kinds:
        weights[kind] = known / 2 / len(kind)
    return rng.choice(numbers, len(numbers), p=weights / weights.sum())


class Batches:
    """Makes batches of a material in threads of its own, some ahead of what is asked for."""

    def __init__(self, material: Material, *, workers: int = 1) -> None:
        self.material = material
        self._tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
        self._tokens_of = lru_cache(_KNOWN)(lambda text: self._tokenizer([text])[0])
        self._workers = workers

    def training(
        self, numbers: NDArray[np.int64], batch: int, balanced: bool, seed: int, fold: int, epoch: int
    ) -> Iterator[Batch]:
        """The batches of one epoch, varied; a last one of a single nodule, which has no contrast, is left out."""
        order = epoch_order(numbers, self.material.labels[numbers], balanced, stream(seed, fold, epoch, _ORDER))
        starts = [at for at in range(0, len(order), batch) if len(order) - at > 1 or len(order) == 1]

        def make(at: int) -> Batch:
            chosen = order[at : at + batch]
            rngs = [stream(seed, fold, epoch, _EXAMPLE, at + n) for n in range(len(chosen))]
            return self._make(chosen, rngs, stream(seed, fold, epoch, _PROMPTS, at))

        return self._ahead(make, starts)

    def plain(self, numbers: NDArray[np.int64], batch: int) -> Iterator[Batch]:
        """The nodules in their order as they are, nothing varied."""

        def make(at: int) -> Batch:
            chosen = numbers[at : at + batch]
            return self._make(chosen, [None] * len(chosen), None)

        return self._ahead(make, range(0, len(numbers), batch))

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts as int64 [N, L], L that of the longest."""
        tokens = torch.stack([self._tokens_of(text) for text in texts])
        return tokens[:, : int(tokens.argmax(dim=1).max()) + 1]

    def _ahead(self, make: Callable[[int], Batch], starts: Sequence[int]) -> Iterator[Batch]:
        with ThreadPoolExecutor(self._workers) as pool:
            waiting: deque[Future[Batch]] = deque()
            try:
                for at in starts:
                    waiting.append(pool.submit(make, at))
                    if len(waiting) > _AHEAD + self._workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _make(
        self, numbers: NDArray[np.int64], rngs: Sequence[np.random.Generator | None], rng: np.random.Generator | None
    ) -> Batch:
        material = self.material
        pairs = list(zip(numbers.tolist(), rngs, strict=True))
        views = [material.source.views(number, own) for number, own in pairs]
        reports = [material.report(material.examples[number], own) for number, own in pairs]
        prompts = [
            several[0 if rng is None else int(rng.integers(len(several)))]
            for _, _, several in material.features.values()
        ]
        tokens = self.tokens([*reports, *prompts])
        counts = np.array([len(own) for own in views])
        return Batch(
            torch.from_numpy(np.concatenate(views).astype(np.float32, copy=False)),
            torch.from_numpy(np.arange(counts.max()) < counts[:, None]),
            tokens[: len(reports)],
            torch.from_numpy(material.class_shares[numbers]),
            torch.from_numpy(material.value_shares[numbers]),
            torch.from_numpy(material.ratings[numbers]),
            tokens[len(reports) :],
        )
