"""Reports written from the values of semantic features, by templates.

A report states some of the features that are known, in random order and in varying words; it never states one that is
not known. Part of the time it uses the very prompts of the features file, so that a model that learns from reports
knows what is asked of it without examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from noduleserve.export.text.features import Features

from .base import Example

# feature -> value -> nouns: what the nodule is
NOUNS: dict[str, dict[str, tuple[str, ...]]] = {
    "consistency": {
        "solid": ("solid nodule", "nodule of soft-tissue density", "dense solid nodule"),
        "part-solid": ("part-solid nodule", "mixed ground-glass and solid nodule", "subsolid nodule with a solid part"),
        "pure ground glass": ("pure ground-glass nodule", "nonsolid nodule", "hazy ground-glass nodule"),
    },
}

# feature -> value -> phrases: what the nodule has
PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "margin conspicuity": {
        "well defined": ("well-defined margins", "a sharp border with the lung", "well-marginated edges"),
        "poorly defined": ("poorly defined margins", "a blurred border that fades into the lung", "indistinct edges"),
    },
    "margins": {
        "smooth": ("smooth margins", "a smooth contour", "an even outline"),
        "lobulated": ("lobulated margins", "a lobulated contour", "broad bulges of the outline"),
        "spiculated": ("spiculated margins", "spicules that reach into the lung", "a spiculated contour"),
        "irregular": ("irregular margins", "an irregular contour", "an uneven outline"),
    },
    "additional margins": {
        "none": ("the same kind of margin all round",),
        "lobulated": ("an additional lobulated part of the margin", "lobulation of another part of the margin"),
        "spiculated": ("an additional spiculated part of the margin", "spicules on another part of the margin"),
        "irregular": ("an additional irregular part of the margin", "irregularity of another part of the margin"),
    },
    "shape": {
        "round": ("a round shape", "a rounded form"),
        "oval": ("an oval shape", "an ovoid form"),
        "polygonal": ("a polygonal shape with flat sides", "a polygonal form"),
        "irregular": ("an irregular shape", "an irregular form"),
    },
    "cyst-like spaces": {
        "present": ("cyst-like spaces", "small round bubbles of air inside it"),
        "absent": ("no cyst-like spaces",),
    },
    "eccentric calcification": {
        "present": ("eccentric calcification", "calcification away from its centre"),
        "absent": ("no eccentric calcification",),
    },
}

_PLACES = ("lung nodule", "pulmonary nodule", "nodule")
_FRAMES = ("a CT image of a {}.", "chest CT showing a {}.", "there is a {}.", "a {}.")
_DULL = ("absent", "none")  # values that most nodules have
_KEPT, _DULL_KEPT = 0.8, 0.3  # how often a known feature is stated
_PROMPTED = 0.35  # how often it is stated by a prompt of the features file, in a sentence of its own
_MOST_WORDS = 42  # of a report; CLIP reads 77 tokens, and hyphenated words are several


class Reports:
    """Writes the report of an example.

    Attributes:
        features: the features file whose prompts reports make use of.
    """

    def __init__(self, features: Features) -> None:
        self.features = features

    def __call__(self, example: Example, rng: np.random.Generator | None) -> str:
        """A report; "a lung nodule." where nothing is known.

        Args:
            example: of which something is known.
            rng: draws whose word it is (one reader's, or what all say together), what is stated, in which order and
                in which words. None: all that is known, in the order of the features file, in its words.
        """
        if rng is None:
            return self.plain(example.values)
        said = (example.values, *example.readings)
        return self.write(said[int(rng.integers(len(said)))], rng)

    def plain(self, values: Mapping[str, str]) -> str:
        """All that is known, each feature in the first of its words."""
        known = [feature for feature in self.features.prompts if self._states(feature, values)]
        own = [feature for feature in known if not _has_words(feature, values[feature])]
        return self._join(values, [feature for feature in known if feature not in own], own, None)

    def write(self, values: Mapping[str, str], rng: np.random.Generator) -> str:
        """Some of what is known, in random order and words."""
        known = [feature for feature in sorted(values) if self._states(feature, values)]
        kept = [f for f in known if rng.random() < (_DULL_KEPT if values[f] in _DULL else _KEPT)]
        if not kept and known:
            kept = [known[int(rng.integers(len(known)))]]
        kept = [kept[place] for place in rng.permutation(len(kept))]
        own = [f for f in kept if self._prompts(f, values[f]) and rng.random() < _PROMPTED]
        own += [f for f in kept if f not in own and not _has_words(f, values[f])]
        return self._join(values, [feature for feature in kept if feature not in own], own, rng)

    def _states(self, feature: str, values: Mapping[str, str]) -> bool:
        value = values.get(feature)
        return value is not None and (_has_words(feature, value) or bool(self._prompts(feature, value)))

    def _prompts(self, feature: str, value: str) -> tuple[str, ...]:
        return self.features.prompts.get(feature, {}).get(value, ())

    def _join(
        self, values: Mapping[str, str], joined: Sequence[str], own: Sequence[str], rng: np.random.Generator | None
    ) -> str:
        """One sentence of the joined features, and one each of those that have their own; no longer than is read."""
        nouns = [_one(NOUNS[f][values[f]], rng) for f in joined if f in NOUNS]
        phrases = [_one(PHRASES[f][values[f]], rng) for f in joined if f in PHRASES]
        sentences = []
        if joined or not own:
            noun = nouns[0] if nouns else _one(_PLACES, rng)
            while phrases and len(" ".join(phrases).split()) > _MOST_WORDS - 12:
                phrases.pop()
            sentences.append(_one(_FRAMES, rng).format(noun + _with(phrases)))
        for feature in own:
            sentences.append(_one(self._prompts(feature, values[feature]), rng))
        if rng is not None:
            sentences = [sentences[place] for place in rng.permutation(len(sentences))]
        return _within(sentences)


def _has_words(feature: str, value: str) -> bool:
    return value in NOUNS.get(feature, {}) or value in PHRASES.get(feature, {})


def _one(several: Sequence[str], rng: np.random.Generator | None) -> str:
    return several[0 if rng is None else int(rng.integers(len(several)))]


def _with(phrases: Sequence[str]) -> str:
    """ " with a, b and c"."""
    if not phrases:
        return ""
    *most, last = phrases
    return " with " + (", ".join(most) + " and " + last if most else last)


def _within(sentences: Sequence[str]) -> str:
    """As many sentences as are read to their end, at least one."""
    kept: list[str] = []
    for sentence in sentences:
        if kept and len(" ".join([*kept, sentence]).split()) > _MOST_WORDS:
            break
        kept.append(sentence)
    return " ".join(kept)
