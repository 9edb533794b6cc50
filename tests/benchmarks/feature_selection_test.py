"""Selectors that others are held against, and how settings are chosen."""

import itertools

import numpy as np
import pytest

from benchmarks.feature_selection import baselines
from benchmarks.feature_selection.__main__ import Bench
from benchmarks.feature_selection.data import Part
from benchmarks.feature_selection.data import parted
from benchmarks.feature_selection.data import redundant_digits
from benchmarks.feature_selection.data import scaled
from benchmarks.feature_selection.network import accuracy
from benchmarks.feature_selection.network import sequential_attention
from benchmarks.shared.report import Report

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 6)).astype("float32")
# Columns 1 and 4 tell the class; 2 says what 1 does; 5 is constant.
X[:, 2] = X[:, 1] + 0.3 * RNG.normal(size=400)
X[:, 5] = 3.0
PART = Part(X, (X[:, 1] > 0) * 2 + (X[:, 4] > 0).astype(int))


def residual(columns):
    x = X[:, columns] - X[:, columns].mean(axis=0)
    classes = np.eye(4)[PART.y]
    classes = classes - classes.mean(axis=0)
    rest = classes - x @ np.linalg.lstsq(x, classes, rcond=None)[0]
    return np.square(rest).sum()


def test_matching_pursuit_takes_what_helps_most():
    found = baselines.matching_pursuit(PART, 2)
    best = min(itertools.combinations(range(5), 2), key=residual)
    assert set(found) == set(best) == {1, 4}
    assert len(set(baselines.matching_pursuit(PART, 5))) == 5


@pytest.mark.parametrize(
    "select",
    [
        lambda: baselines.extra_trees(PART, 3, seed=0),
        lambda: baselines.anova(PART, 3),
        lambda: baselines.group_lasso(PART, 2, 0.03, 120, seed=0),
        lambda: sequential_attention(PART, 2, 0.01, 120, seed=0),
    ],
)
def test_useful_columns_are_found(select):
    found = select()
    assert len(set(found)) == len(found)
    assert {1, 4} <= set(found) | ({1} if 2 in found else set())


def test_a_penalty_is_the_sum_of_the_lengths_of_rows():
    kernel = RNG.normal(size=(5, 3)).astype("float32")
    wanted = 0.1 * np.linalg.norm(kernel, axis=1).sum()
    assert float(baselines.ColumnLasso(0.1)(kernel)) == pytest.approx(wanted)


def test_digits_have_copies_and_noise_and_parts_that_differ():
    digits = redundant_digits(0)
    assert digits.x.shape == (1797, 64 + 2 * 15 + 30)
    assert set(np.round(digits.x.std(axis=0), 2)) <= {0.0, 1.0}
    parts = parted(Part(np.arange(100), np.arange(100)), seed=1)
    assert [len(part.y) for part in parts] == [64, 16, 20]
    assert len(set(np.concatenate([part.y for part in parts]))) == 100
    assert scaled(np.ones((3, 2)), np.zeros((3, 2)), 0.5).max() == 2.0


def test_the_setting_that_validation_likes_is_measured_on_the_test():
    digits = parted(PART, seed=0)
    report = Report("Features")
    bench = Bench("toys", 2, report)
    columns = {0.1: [0, 3], 0.2: [1, 4], 0.3: [1, 1]}
    assert bench.tune("attention", columns.get, columns, digits) == 0.2
    assert bench.exact == [True, True, False]
    wanted = accuracy([1, 4], digits.train, digits.test)
    assert bench.mean("attention") == wanted > 0.9
    assert report.figures["toys_attention_at_0.2"] == wanted
    bench.measure("random", [0, 3], digits)
    assert bench.over("random") == wanted - bench.mean("random") > 0.3
    bench.add_means()
    assert report.figures["toys_random_accuracy"] == bench.mean("random")
