"""Nobody is in two parts, and the parts are the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from noduleserve.errors import TrainingError
from noduleserve.training.data.base import Example
from noduleserve.training.data.splits import NEVER_TRAINED_ON, split


def nodules(patients: int, seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    names = [f"LIDC-IDRI-{number:04}" for number in range(1, patients + 1) for _ in range(rng.integers(1, 5))]
    return [Example(str(n), name, None, {}, {}) for n, name in enumerate(rng.permutation(names).tolist())]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_nodule_is_in_one_part_and_every_patient_too(seed: int) -> None:
    examples = nodules(300)
    splits = split(examples, 5, seed)
    parts = [splits.held_out, *splits.folds]
    assert sorted(number for part in parts for number in part) == list(range(len(examples)))
    patients = [{examples[number].patient for number in part} for part in parts]
    assert len(set.union(*patients)) == sum(len(part) for part in patients) == 300
    assert set(NEVER_TRAINED_ON) <= patients[0]
    assert len(patients[0]) == 4 + round(296 / 6)
    assert max(len(part) for part in patients[1:]) - min(len(part) for part in patients[1:]) <= 1


def test_a_fold_is_trained_on_the_others() -> None:
    splits = split(nodules(60), 3)
    for fold in range(3):
        training = splits.training(fold)
        assert not set(training) & set(splits.folds[fold])
        assert set(training) | set(splits.folds[fold]) == set(splits.development)
        assert not set(splits.development) & set(splits.held_out)


def test_the_seed_decides_and_the_order_of_the_nodules_does_not() -> None:
    examples = nodules(200)
    held_out = {examples[number].patient for number in split(examples, seed=4).held_out}
    backwards = examples[::-1]
    assert {backwards[number].patient for number in split(backwards, seed=4).held_out} == held_out
    assert {examples[number].patient for number in split(examples, seed=5).held_out} != held_out


def test_the_real_cohort_keeps_its_held_out_patients() -> None:
    """Figures are of these patients: another draw would let a later training see them."""
    names = [f"LIDC-IDRI-{number:04}" for number in range(1, 1013)]
    examples = [Example(name, name, None, {}, {}) for name in names]
    drawn = [examples[number].patient for number in split(examples, held_out_share=0.01).held_out]
    always, numbers = {1, 2, 3, 132}, {282, 361, 489, 496, 657, 814, 875, 882, 898, 991}
    assert drawn == [f"LIDC-IDRI-{number:04}" for number in sorted(always | numbers)]


def test_nothing_needs_to_be_held_out_and_too_few_patients_are_refused() -> None:
    examples = [Example(str(n), str(n), None, {}, {}) for n in range(6)]
    assert split(examples, 2, held_out_share=0, never=()).held_out == ()
    with pytest.raises(TrainingError, match="SPLIT_TOO_FEW"):
        split(examples, 7, held_out_share=0)
    with pytest.raises(TrainingError, match="SPLIT_TOO_FEW"):
        split(examples, 1)
