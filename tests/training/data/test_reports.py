"""Reports say what is known and nothing else, in many words, and are read to their end."""

from __future__ import annotations

import itertools

import numpy as np
import open_clip
import pytest

from noduleserve.export.text.features import Features
from noduleserve.training.data.base import Example
from noduleserve.training.data.reports import NOUNS, PHRASES, Reports
from noduleserve.training.data.vocabulary import TABLE

VALUES = {rule.feature: [r.value for r in TABLE if r.feature == rule.feature] for rule in TABLE}
WORDS = {feature: {**NOUNS.get(feature, {}), **PHRASES.get(feature, {})} for feature in {*NOUNS, *PHRASES}}


@pytest.fixture(scope="module")
def reports(features: Features) -> Reports:
    return Reports(features)


def said(report: str, features: Features) -> set[tuple[str, str]]:
    """What a report states, found by its words: (feature, value)."""
    found: dict[tuple[str, str], list[str]] = {}
    for feature, values in WORDS.items():
        for value, phrases in values.items():
            for phrase in (*phrases, *features.prompts[feature][value]):
                if phrase in report:
                    found.setdefault((feature, value), []).append(phrase)
    # A phrase within a longer one that was found is not said: "cyst-like spaces" in "no cyst-like spaces".
    longest = {key: max(phrases, key=len) for key, phrases in found.items()}
    return {
        key
        for key, phrase in longest.items()
        if not any(phrase != other and phrase in other for rest, other in longest.items() if rest != key)
    }


def random_values(rng: np.random.Generator) -> dict[str, str]:
    kept = [feature for feature in VALUES if rng.random() < 0.7]
    return {feature: str(rng.choice(VALUES[feature])) for feature in kept}


def test_a_report_never_says_what_is_not_so(reports: Reports, features: Features) -> None:
    rng = np.random.default_rng(0)
    seen: set[tuple[str, str]] = set()
    for _ in range(600):
        values = random_values(rng)
        stated = said(reports.write(values, rng), features)
        assert stated <= values.items()
        assert bool(stated) == bool(values)
        seen |= stated
    assert seen == {(feature, value) for feature, values in VALUES.items() for value in values}


def test_the_plain_report_says_all_that_is_known(reports: Reports, features: Features) -> None:
    for values in itertools.islice(itertools.product(*VALUES.values()), 0, None, 7):
        known = dict(zip(VALUES, values, strict=True))
        assert said(reports.plain(known), features) == set(known.items())


def test_its_words_are_those_of_the_features_file_first(features: Features) -> None:
    for feature, values in WORDS.items():
        for value, phrases in values.items():
            assert any(phrases[0] in prompt for prompt in features.prompts[feature][value])


def test_order_wording_and_what_is_said_vary_with_the_seed_alone(reports: Reports) -> None:
    values = {feature: several[0] for feature, several in VALUES.items()}
    texts = [reports.write(values, np.random.default_rng(seed)) for seed in range(50)]
    assert texts == [reports.write(values, np.random.default_rng(seed)) for seed in range(50)]
    assert len(set(texts)) > 45
    assert reports.write(dict(reversed(values.items())), np.random.default_rng(3)) == texts[3]


def test_every_word_of_a_report_is_read(reports: Reports, features: Features) -> None:
    tokenizer, rng = open_clip.SimpleTokenizer(context_length=400), np.random.default_rng(1)
    whole = {feature: several[0] for feature, several in VALUES.items()}
    every = {feature: next(iter(values)) for feature, values in features.prompts.items()}
    for values in [whole, every]:
        for text in [reports.plain(values), *(reports.write(values, rng) for _ in range(150))]:
            assert int(tokenizer([text])[0].argmax()) + 1 <= 77


def test_features_without_words_are_stated_by_their_prompts(reports: Reports) -> None:
    report = reports.plain({"pleural retraction": "present", "consistency": "solid"})
    assert "pleural retraction" in report
    assert "solid nodule" in report
    assert reports.plain({"a feature that nobody knows": "present"}) == "a CT image of a lung nodule."


def test_a_report_is_one_readers_word_or_that_of_all(reports: Reports, features: Features) -> None:
    example = Example(
        "n", "p", 1, {}, {"consistency": "solid"}, readings=({"consistency": "part-solid"}, {"shape": "oval"})
    )
    rng = np.random.default_rng(0)
    stated = {frozenset(said(reports(example, rng), features)) for _ in range(60)}
    assert stated == {
        frozenset({("consistency", "solid")}),
        frozenset({("consistency", "part-solid")}),
        frozenset({("shape", "oval")}),
    }
    assert reports(example, None) == "a CT image of a solid nodule."
