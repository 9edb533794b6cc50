"""Weighted distillation: weights that take a bias back."""

import numpy as np
import pytest

from keras_moe.distillation import debiasing_weights

RANDOM = np.random.default_rng(0)


def test_the_weighted_loss_of_noisy_labels_is_that_of_true_ones():
    p, distortion = RANDOM.random(50), RANDOM.uniform(0.1, 9.0, 50)
    of_truth = RANDOM.exponential(size=50)
    of_errors = distortion * of_truth
    # Exactly: the expectation over whether the teacher is wrong.
    expected = (1 - p) * of_truth + p * of_errors
    weighted = debiasing_weights(p, distortion) * expected
    np.testing.assert_allclose(weighted, of_truth, rtol=1e-12)


def test_a_teacher_that_is_right_weighs_1():
    np.testing.assert_array_equal(debiasing_weights(np.zeros(3), 7.0), 1.0)
    np.testing.assert_array_equal(debiasing_weights(RANDOM.random(3), 1.0), 1.0)


@pytest.mark.parametrize("distortion", [1e-17, 1e-300, 1e300])
def test_a_teacher_that_is_wrong_weighs_the_inverse(distortion):
    found = debiasing_weights(1.0, distortion)
    np.testing.assert_allclose(found, 1 / distortion, rtol=1e-12)


@pytest.mark.parametrize(
    ("p", "distortion", "message"),
    [
        ([0.5, 1.5], [1.0, 1.0], r"`error_rate` must be in \[0, 1\]. .* 1.5"),
        ([np.nan], [1.0], "`error_rate` must be in .* nan"),
        ([-0.1], [1.0], "`error_rate` must be in"),
        ([1.0], [0.0], "`distortion` must be positive numbers. Received: 0.0"),
        ([0.5], [np.inf], "`distortion` must be positive numbers"),
        ([0.5], [np.nan], "`distortion` must be positive numbers"),
        ([0.5, 0.5], [1.0, 2.0, 3.0], r"shapes that fit. .* \(2,\) and \(3,\)"),
    ],
)
def test_bad_input(p, distortion, message):
    with pytest.raises(ValueError, match=message):
        debiasing_weights(p, distortion)
