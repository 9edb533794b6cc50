"""Columns as a network reads them, and those that tell nothing."""

import numpy as np
import pytest

from keras_moe.components.selection._encode import encode
from keras_moe.components.selection._feature_table import Column

RNG = np.random.default_rng(0)
HALF = np.arange(1000) % 2 == 0
ALL = np.ones(1000, bool)


def column(values, there=ALL, is_whole=False):
    values = np.asarray(values, "float64")
    values = values if values.ndim > 1 else np.expand_dims(values, 1)
    # As a table holds them.
    return Column(
        np.where(np.expand_dims(there, 1), values, 0), there, is_whole
    )


def encoded(train, other=None):
    return encode({"x": train}, {"x": train if other is None else other})


@pytest.mark.parametrize("step", [1, 1000])
def test_large_integers_vary(step):
    times = 1.7e9 + step * RNG.permutation(1000)
    found = encoded(column(times, is_whole=True))
    assert not found.useless
    np.testing.assert_allclose(
        found.train["x"][:, 0], (times - times.mean()) / times.std(), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("values", "is_whole"),
    [
        (np.full(1000, 7.0), True),
        (np.full(1000, 0.1), False),
        (np.float32(0.1) * (1 + 1e-7 * HALF), False),
    ],
)
def test_what_is_the_same_everywhere_tells_nothing(values, is_whole):
    found = encoded(column(values, is_whole=is_whole))
    assert found.useless == {"x": "constant"}


def test_whether_a_number_is_there_may_tell_all():
    found = encoded(column(np.ones(1000), HALF))
    assert not found.useless
    np.testing.assert_allclose(found.train["x"][:, 0], 0.0)
    np.testing.assert_allclose(found.train["x"][:, 1], np.where(HALF, 1, -1))


def test_missing_numbers_are_the_mean():
    values = RNG.normal(5.0, 3.0, size=(1000, 2))
    found = encoded(column(values, HALF)).train["x"]
    assert found.shape == (1000, 3) and found.dtype == "float32"
    np.testing.assert_allclose(found[~HALF, :2], 0.0)
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(found[HALF].std(axis=0), [1, 1, 0], atol=1e-6)
    whole = encoded(column(values)).train["x"]
    assert whole.shape == (1000, 2)


def test_evaluation_is_scaled_as_training():
    other = column(np.full(1000, 2.0))
    found = encoded(column(np.ones(1000), HALF), other).evaluation["x"]
    np.testing.assert_allclose(found, np.ones((1000, 2)))
    # Missing in the evaluation alone: no number says so.
    train = column(np.arange(1000.0))
    found = encoded(train, column(np.arange(1000.0), HALF)).evaluation["x"]
    assert found.shape == (1000, 1)
    np.testing.assert_allclose(found[~HALF], 0.0)


def test_small_numbers_have_variance_1():
    values = 1e-9 * RNG.normal(size=(1000, 2))
    values[:, 1] = 3e-9
    found = encoded(column(values)).train["x"]
    np.testing.assert_allclose(found.std(axis=0), [1, 0], atol=1e-6)
