import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from tests.layers.moe.sparse_moe_case import DIM
from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import kernels
from tests.layers.moe.sparse_moe_case import make
from tests.layers.routers.router_case import router
from tests.reference import losses as reference_losses


@functools.cache
def layer_of(name):
    return make(
        3,
        router=router(
            name,
            capacity_factor=None,
            load_balancing_loss_weight=1.0,
            router_z_loss_weight=1.0,
        ),
    )


@pytest.mark.parametrize("name", ["switch", "top_2", "top_3", "prioritized"])
@given(
    poison=st.sampled_from([0.0, 1e30, -1e30, np.inf, np.nan]),
    extra=st.integers(0, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=5)
def test_padding_changes_nothing(name, poison, extra, seed):
    rng = np.random.default_rng(seed)
    layer = layer_of(name)
    real = rng.normal(size=(2, 4, DIM)).astype("float32")
    lengths = rng.integers(0, 5, 2)
    mask = np.arange(4 + extra)[None] < lengths[:, None]
    padded = np.pad(real, ((0, 0), (0, extra), (0, 0)))
    padded = np.where(mask[..., None], padded, poison).astype("float32")
    alone = real.reshape(-1, DIM)[mask[:, :4].reshape(-1)][None]

    def run(inputs, mask):
        for metric in layer.router.metrics:
            metric.reset_state()
        with tf.GradientTape() as tape:
            x = tf.constant(inputs)
            tape.watch(x)
            outputs = layer(x, mask=mask, training=True)
            losses = list(layer.losses)
            total = tf.reduce_sum(tf.square(outputs)) + sum(losses)
        metrics = {m.name: float(m.result()) for m in layer.router.metrics}
        weights = [v.value for v in layer.trainable_weights]
        return outputs, losses, metrics, tape.gradient(total, [x, *weights])

    outputs, losses, metrics, gradients = run(padded, mask)
    assert not np.any(np.asarray(outputs)[~mask])
    assert not np.any(np.asarray(gradients[0])[~mask])
    expected, want_losses, want_metrics, want_gradients = run(alone, None)
    np.testing.assert_allclose(
        np.asarray(outputs)[mask], expected[0], atol=1e-5
    )
    np.testing.assert_allclose(losses, want_losses, rtol=1e-4, atol=1e-6)
    assert metrics == pytest.approx(want_metrics, rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(
        np.asarray(gradients[0])[mask], want_gradients[0][0], atol=1e-4
    )
    for mine, theirs in zip(gradients[1:], want_gradients[1:], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_padding_takes_no_capacity():
    # Capacity follows from the shape; who takes it, from the real tokens.
    layer = make(
        1, router={"eval_capacity_factor": 0.5, "min_expert_capacity": 1}
    )
    inputs = data(1, 8)
    mask = np.array([[0, 0, 0, 0, 1, 1, 1, 1]], bool)
    outputs = np.asarray(layer(inputs, mask=mask))[0]
    assert np.all(np.any(outputs[4:], axis=-1))
    assert not np.any(outputs[:4])


def test_losses_are_those_of_the_real_tokens():
    layer = make(
        3,
        router={
            "load_balancing_loss_weight": 0.5,
            "router_z_loss_weight": 0.25,
            "group_size": 4,
        },
    )
    inputs, mask = data(2, 5), np.random.random((2, 5)) < 0.7
    layer(inputs, mask=mask)
    tokens = np.pad(inputs.reshape(-1, DIM), ((0, 2), (0, 0)))
    logits = (tokens @ kernels(layer)["router"]).reshape(3, 4, 3)
    real = np.pad(mask.reshape(-1), (0, 2)).reshape(3, 4)
    probabilities = tf.nn.softmax(logits).numpy()
    np.testing.assert_allclose(
        layer.losses,
        [
            0.5 * reference_losses.load_balancing(probabilities, real),
            0.25 * reference_losses.router_z(logits, real),
        ],
        rtol=1e-4,
    )


def test_keras_masks_arrive_and_pass_on():
    seen = []

    class Probe(keras.layers.Layer):
        supports_masking = True

        def call(self, inputs, mask=None):
            seen.append(mask)
            return inputs

    moe = make()
    embedding = keras.layers.Embedding(9, DIM, mask_zero=True)
    model = keras.Sequential([embedding, moe, Probe()])
    ids = np.array([[3, 4, 0, 0], [5, 0, 0, 0]])
    seen.clear()
    outputs = model(ids)
    np.testing.assert_array_equal(seen[-1], ids != 0)
    assert not np.any(np.asarray(outputs)[ids == 0])
    np.testing.assert_allclose(
        outputs, moe(embedding(ids), mask=ids != 0), atol=1e-6
    )
