"""Gradient accumulation: what it shares with one big batch, and what not."""

import keras
import numpy as np
import pytest

from keras_moe import layers

DIM = 5


def trained(x, batch_size, accumulate, run_eagerly=True, **router):
    """The step of the weights, and the history."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, DIM))
    router = layers.SwitchRouter(
        jitter_noise=0.0,
        capacity_factor=None,
        kernel_initializer="glorot_normal",
        **router,
    )
    layer = layers.SparseMoE(4, 8, router=router, name="moe")
    model = keras.Model(inputs, inputs + layer(inputs))
    before = model.get_weights()
    model.compile(
        keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulate),
        "mse",
        jit_compile=False,
        run_eagerly=run_eagerly,
    )
    history = model.fit(
        x,
        np.roll(x, 1, -1),
        batch_size=batch_size,
        shuffle=False,
        verbose=0,
    ).history
    after = model.get_weights()
    steps = [a - b for a, b in zip(after, before, strict=True)]
    return steps, {name: values[-1] for name, values in history.items()}


def largest_gap(one, other):
    return max(np.abs(a - b).max() for a, b in zip(one, other, strict=True))


def pair(x, **options):
    return trained(x, 4, 2, **options), trained(x, 8, None, **options)


@pytest.fixture
def halves():
    return np.random.default_rng(3).normal(size=(2, 4, 6, DIM)).astype("f")


def test_the_z_loss_is_that_of_the_big_batch(halves, run_eagerly):
    (steps, logs), (expected, big) = pair(
        np.concatenate(halves),
        run_eagerly=run_eagerly,
        load_balancing_loss_weight=0.0,
        router_z_loss_weight=1.0,
    )
    assert largest_gap(steps, expected) < 1e-6
    plain = trained(
        np.concatenate(halves),
        8,
        None,
        load_balancing_loss_weight=0.0,
        router_z_loss_weight=0.0,
    )
    assert largest_gap(steps, plain[0]) > 1e-3
    for name in (
        "loss",
        "moe/router_z_loss",
        "moe/router_entropy",
        "moe/router_confidence",
        "moe/expert_load_cv",
    ):
        assert logs[name] == pytest.approx(big[name], rel=1e-4), name


def test_the_balance_is_that_of_each_step(halves, run_eagerly):
    options = {
        "run_eagerly": run_eagerly,
        "load_balancing_loss_weight": 1.0,
        "router_z_loss_weight": 0.0,
    }
    # Where the steps are alike, so is the big batch.
    (steps, logs), (expected, big) = pair(
        np.concatenate([halves[0]] * 2), **options
    )
    assert largest_gap(steps, expected) < 1e-6
    assert logs["moe/auxiliary_loss"] == pytest.approx(
        big["moe/auxiliary_loss"], rel=1e-4
    )
    # Where they are not, each is balanced on its own.
    (steps, _), (expected, _) = pair(np.concatenate(halves), **options)
    assert largest_gap(steps, expected) > 1e-5
