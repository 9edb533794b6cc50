import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe.ops.linear_attention._feature_statistics import masked_moments
from keras_moe.ops.linear_attention._fit_features import COVARIANCES
from keras_moe.ops.linear_attention._fit_features import balancing_scale
from keras_moe.ops.linear_attention._fit_features import fit_features
from keras_moe.ops.linear_attention._fit_features import optimal_bound
from keras_moe.ops.linear_attention._fit_features import relative_variance
from tests.covering import covering

DIM = 4
OPTIONS = {
    "centering": True,
    "rescaling": True,
    "bounded": True,
    "covariance": "dense",
    "antithetic": True,
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def moments(x, covariance="dense"):
    """Of `x`, `[t, dim]`, for one head."""
    square = x.T @ x / len(x) if covariance == "dense" else (x**2).mean(0)
    return x.mean(0)[None], square[None].astype("float32")


def log_features(fitted, x, y, antithetic):
    """Log-features of queries and keys, as `FittedFeatures` defines them."""
    projection, log_weights, a, b, scale, _ = (np.asarray(f[0]) for f in fitted)
    x, y = (x - a) * scale, (y - b) / scale
    of_x, of_y = x @ projection.T, y @ projection.T
    if antithetic:
        of_x, of_y = (np.concatenate([z, -z], axis=1) for z in (of_x, of_y))
    weight = y @ (scale * a) - 0.5 * (y**2).sum(1)
    return of_x, of_y + log_weights + weight[:, None]


@pytest.mark.parametrize(
    ("covariance", "centering", "rescaling", "bounded", "antithetic"),
    covering(COVARIANCES, *[[False, True]] * 4),
)
def test_is_softmax_in_the_mean(
    centering, rescaling, bounded, covariance, antithetic
):
    """Attention weights tend to those of softmax, whatever the options."""
    x = 0.5 * normal(5, DIM) + 0.4
    y = 0.5 * normal(7, DIM, seed=1) * np.float32([0.3, 1.0, 1.5, 1.0]) - 0.3
    draws = normal(1, 60_000, DIM, seed=2)
    fitted = fit_features(
        draws,
        moments(x, covariance),
        moments(y, covariance),
        centering=centering,
        rescaling=rescaling,
        bounded=bounded,
        covariance=covariance,
        antithetic=antithetic,
    )
    of_x, of_y = log_features(fitted, x, y, antithetic)
    received = np.exp(of_x - of_x.max()) @ np.exp(of_y).T
    received /= received.sum(1, keepdims=True)
    expected = np.exp(x @ y.T)
    expected /= expected.sum(1, keepdims=True)
    # Some three standard errors of the least precise option.
    np.testing.assert_allclose(received, expected, rtol=0.08)


def second_moment(a, moment):
    """Of one direction, over the squared kernel (arXiv:2205.15317)."""
    factor = (1 - 4 * a) * (1 - 8 * a) ** -0.5
    return (
        np.log(factor) + 4 * (1 - 4 * a) * moment / (2 * (1 - 8 * a)) - moment
    )


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-3, 30.0))
def test_the_bound_is_the_best(moment):
    received = float(optimal_bound(np.float32([moment]))[0])
    assert received <= 0.0
    best = scipy.optimize.minimize_scalar(
        lambda a: second_moment(a, moment),
        bounds=(-20.0, 0.12),
        method="bounded",
    )
    least = second_moment(received, moment)
    assert least <= best.fun + 1e-5 * max(1.0, abs(best.fun))


def test_nothing_to_fit_is_favor_plus():
    assert float(optimal_bound(np.zeros(1, "float32"))[0]) == 0.0
    draws, nothing = normal(1, 8, DIM), np.zeros((1, DIM), "float32")
    zero = (nothing, np.zeros((1, DIM, DIM), "float32"))
    fitted = fit_features(draws, zero, zero, **OPTIONS)
    # Up to the signs and order that no second moment prefers.
    np.testing.assert_allclose(
        np.linalg.norm(fitted.projection, axis=-1),
        np.linalg.norm(draws, axis=-1),
        rtol=1e-5,
    )
    assert not np.asarray(fitted.log_weights).any()
    np.testing.assert_array_equal(fitted.scale, np.ones((1, DIM)))
    np.testing.assert_allclose(fitted.relative_variance, 0.0, atol=1e-6)


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
def test_the_variance_is_what_draws_have(bounded, antithetic):
    moment = np.float32([[0.3, 0.2, 0.5, 0.1]])
    bound = np.asarray(optimal_bound(moment)) * bounded
    z = np.sqrt(moment[0])
    x, y = 0.7 * z, 0.3 * z
    w = normal(400_000, DIM, seed=5).astype("float64")
    a = bound[0]

    def feature(w, x):
        return np.prod((1 - 4 * a) ** 0.25) * np.exp(
            (w**2) @ a + w @ (np.sqrt(1 - 4 * a) * x) - 0.5 * x @ x
        )

    estimates = feature(w, x) * feature(w, y)
    features = 1
    if antithetic:
        estimates = 0.5 * (estimates + feature(-w, x) * feature(-w, y))
        features = 2
    measured = estimates.var() / np.exp(x @ y) ** 2
    predicted = relative_variance(moment, bound, features, antithetic)
    np.testing.assert_allclose(measured, float(predicted[0]), rtol=0.06)


def test_a_large_variance_stays_finite():
    moment = np.full((1, DIM), 1e4, "float32")
    assert np.isfinite(
        relative_variance(moment, np.zeros_like(moment), 16, True)
    ).all()


def test_scales_let_both_vary_alike_and_spare_what_does_not_vary():
    query, key = np.float32([[4.0, 1.0, 0.0]]), np.float32([[1.0, 9.0, 2.0]])
    scale = np.asarray(balancing_scale(query, key))
    np.testing.assert_allclose(
        (query * scale**2)[:, :2], (key / scale**2)[:, :2], rtol=1e-5
    )
    assert scale[0, 2] == 1.0


@pytest.mark.parametrize("dense", [False, True])
def test_moments_leave_out_what_is_hidden(dense):
    x = normal(2, 3, 2, 5, DIM)
    visible = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], bool)
    loud = np.where(visible[:, None, None, :, None], x, 1e9)
    count, mean, square = masked_moments(
        loud.astype("float32"), visible[:, None, None], dense
    )
    assert int(count) == 2 * visible.sum()
    for head in range(3):
        rows = np.concatenate(
            [x[b, head, :, visible[b]].reshape(-1, DIM) for b in range(2)]
        )
        np.testing.assert_allclose(mean[head], rows.mean(0), atol=1e-5)
        expected = rows.T @ rows / len(rows)
        if not dense:
            expected = np.diagonal(expected)
        np.testing.assert_allclose(square[head], expected, atol=1e-5)


def test_moments_of_nothing_are_numbers():
    count, mean, square = masked_moments(
        normal(1, 2, 1, 3, DIM), np.zeros((1, 1, 1, 3), bool), True
    )
    assert int(count) == 0
    assert not np.asarray(mean).any() and not np.asarray(square).any()
