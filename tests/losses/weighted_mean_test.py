"""The mean of what each token costs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.keras_internals import set_mask
from keras_moe.losses import token_crossentropy
from keras_moe.losses import weighted_mean
from tests.reference import distillation as reference
from tests.reference.losses import crossentropy

WEIGHTS = ["none", "example", "column", "token"]
SHAPES = {
    "shape": st.sampled_from([(4,), (3, 1), (2, 5)]),
    "kind": st.sampled_from(WEIGHTS),
    "share": st.sampled_from([0.0, 0.5, 1.0]),
    "seed": st.integers(0, 999),
}


def draw(shape, kind, share, seed):
    """Values, a mask, and weights as given and one for each value."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape).astype("float32")
    mask = rng.random(shape) < share
    if kind == "none":
        return values, mask, None, np.ones(shape)
    of_kind = {"example": shape[:1], "column": (shape[0], 1), "token": shape}
    weights = rng.uniform(0, 3, of_kind[kind]).astype("float32")
    if kind == "token":
        return values, mask, weights, weights
    rows = weights.reshape(-1, *[1] * (len(shape) - 1))
    return values, mask, weights, np.broadcast_to(rows, shape)


@given(**SHAPES)
def test_equals_the_loop(**options):
    values, mask, weights, each = draw(**options)
    for m in (mask, None):
        received = weighted_mean(values, m, weights)
        assert received.shape == ()
        assert received.dtype == "float32"
        real = np.ones_like(mask) if m is None else m
        np.testing.assert_allclose(
            received,
            reference.weighted_mean(values, real, each),
            rtol=1e-5,
            atol=1e-6,
        )


@given(**SHAPES)
def test_weighs_as_keras_does(**options):
    values, mask, weights, _ = draw(**options)
    values = np.abs(values)
    # Keras multiplies weights [n] and a mask [n, t] as they are, and fails.
    column = options["kind"] == "example" and values.ndim == 2
    for_keras = weights[:, None] if column else weights
    for m in (mask, None):
        outputs = tf.constant(values[..., None])
        if m is not None:
            set_mask(outputs, tf.constant(m))
        expected = keras.losses.MeanAbsoluteError()(
            tf.zeros_like(outputs), outputs, sample_weight=for_keras
        )
        np.testing.assert_allclose(
            weighted_mean(values, m, weights), expected, rtol=1e-5
        )


@given(**SHAPES, poison=st.sampled_from([np.nan, np.inf, 1e38]))
def test_padding_has_no_say(poison, **options):
    values, mask, weights, _ = draw(**options)
    expected = weighted_mean(values, mask, weights)
    dirty = tf.constant(np.where(mask, values, poison), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(dirty)
        received = weighted_mean(dirty, mask, weights)
    np.testing.assert_array_equal(received, expected)
    gradient = tape.gradient(received, dirty).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[~mask].any()


def test_half_precision_is_computed_in_float32():
    # The sum, 3,000, is no number of bfloat16; nor are the weights.
    values = tf.ones((3000,), "bfloat16")
    received = weighted_mean(values, sample_weight=np.full(3000, 1.001))
    assert received.dtype == "float32"
    assert float(received) == pytest.approx(1.001, rel=1e-5)


def test_weights_have_no_more_axes_than_values():
    with pytest.raises(ValueError, match=r"at most the axes.*2.*\(2, 3, 2\)"):
        weighted_mean(np.ones((2, 3)), sample_weight=np.ones((2, 3, 2)))


@given(
    kind=st.sampled_from(["example", "column", "token"]),
    smoothing=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 999),
)
def test_crossentropy_is_weighted(kind, smoothing, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, (3, 4))
    labels[:, 0] = 1  # one is real in each
    logits = rng.normal(size=(3, 4, 5)).astype("float32")
    _, _, weights, each = draw((3, 4), kind, 1.0, seed)
    cost = [
        [crossentropy([[label]], [[row]], 0, smoothing) for label, row in pair]
        for pair in map(zip, labels, logits)
    ]
    expected = reference.weighted_mean(np.array(cost), labels != 0, each)
    received = token_crossentropy(
        labels, logits, label_smoothing=smoothing, sample_weight=weights
    )
    np.testing.assert_allclose(received, expected, rtol=1e-5)
