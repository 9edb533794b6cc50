"""Random features say where attention by them is not worth having."""

import warnings

import keras
import numpy as np
import pytest

from keras_moe.layers import RandomFeatureAttention


def normal(scale=1.0, dim=64, length=512):
    rows = np.random.default_rng(0).normal(size=(1, length, dim))
    return (scale * rows).astype("float32")


def relative_error(actual, expected):
    difference = np.asarray(actual) - np.asarray(expected)
    return np.linalg.norm(difference) / np.linalg.norm(expected)


def convert(num_heads, key_dim, features, **kwargs):
    keras.utils.set_random_seed(0)
    x = normal(dim=num_heads * key_dim)
    exact = keras.layers.MultiHeadAttention(num_heads, key_dim, **kwargs)
    exact(x, x)
    linear = RandomFeatureAttention.from_multi_head_attention(
        exact, num_random_features=features, exact_below=None, seed=0
    )
    return exact, linear


@pytest.fixture
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.mark.parametrize(("scale", "words"), [(1.0, "mean"), (0.5, "3.% of")])
def test_warns_where_no_attention_would_be_as_good(scale, words):
    """The case of the issue: heads of 64, of the usual variance and a fourth.

    At the second, the error was that of the plain mean of values.
    """
    with pytest.warns(UserWarning, match="On inputs of mean 0 and variance 1"):
        exact, linear = convert(1, 64, 256)
    x = normal(scale)
    with pytest.warns(UserWarning, match="relative_variance is .*" + words):
        linear.adapt(x, x)
    assert relative_error(linear(x, x), exact(x, x)) > 0.25


@pytest.mark.usefixtures("_no_warning")
def test_says_nothing_where_outputs_are_near():
    exact, linear = convert(8, 8, 256)
    x = normal()
    linear.adapt(x, x)
    error = relative_error(linear(x, x), exact(x, x))
    predicted = float(np.max(linear.features.predicted_variance)) ** 0.5
    assert predicted / 2 < error < 2 * predicted < 0.64


@pytest.mark.parametrize("covariance", ["dense", "per_dimension"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_projections_tell_what_data_will(covariance, use_bias):
    """The prediction at conversion is that of a large batch of such inputs."""
    keras.utils.set_random_seed(0)
    x = normal(dim=32, length=16384)
    exact = keras.layers.GroupQueryAttention(
        32, 4, 2, use_bias=use_bias, bias_initializer="normal"
    )
    exact(x[:, :4], x[:, :4])
    with pytest.warns(UserWarning, match="variance 1 .* is") as said:
        linear = RandomFeatureAttention.from_multi_head_attention(
            exact, num_random_features=16, covariance=covariance
        )
    told = float(str(said[-1].message).split(" is ")[1].split(",")[0])
    with pytest.warns(UserWarning, match="relative_variance is"):
        linear.adapt(x, x)
    found = float(np.max(linear.features.predicted_variance))
    np.testing.assert_allclose(told, found, rtol=0.2)
