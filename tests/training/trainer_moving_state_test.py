"""State that moves in the forward pass, where the training goes back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from keras_moe.training import Checkpoints
from keras_moe.training import Trainer

X = np.random.default_rng(0).normal(size=(6, 2, 5, 4)).astype("float32")


def train(batches, directory, **options):
    """Trains on some batches; returns the biases and what moved besides."""
    keras.utils.set_random_seed(0)
    router = layers.BiasBalancedRouter(bias_update_rate=0.125, jitter_noise=0.0)
    attention = layers.RandomFeatureAttention(1, 4, 8, "relu", seed=1)
    inputs = keras.Input((5, 4))
    x = attention(inputs, inputs)
    outputs = layers.SparseMoE(4, 4, router=router)(x)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((X[batches], Y[batches]))
    checkpoints = Checkpoints(directory, every=2)
    Trainer(model, checkpoints, **options).fit(data, verbose=0)
    return np.array(router.expert_bias), int(attention.features.num_updates)


# The labels of batch 3 are no numbers: its forward pass looks sound.
Y = X.copy()
Y[3] = np.nan


def test_a_batch_that_is_left_out_and_others_made_again_count_once(tmp_path):
    with pytest.warns(UserWarning, match="It is left out"):
        bias, updates = train(list(range(6)), tmp_path / "bad")
    expected, five = train([0, 1, 2, 4, 5], tmp_path / "good")
    assert updates == five == 5
    np.testing.assert_array_equal(bias, expected)
    assert np.any(bias)


@pytest.mark.parametrize("trainable", [True, False])
def test_an_update_of_several_batches_is_one_step_of_the_bias(trainable):
    """By the load of all: two batches of which each alone says otherwise."""
    router = layers.BiasBalancedRouter(
        bias_update_rate=0.125, jitter_noise=0.0, num_selected_experts=1,
        normalization="none", capacity_factor=None, name="router",
    )  # fmt: skip
    inputs = keras.Input((6, 3))
    outputs = layers.SparseMoE(3, 4, router=router)(inputs)
    model = keras.Model(inputs, outputs)
    router.kernel.assign(np.eye(3, dtype="float32"))
    router.trainable = trainable
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    # Loads (4, 2, 0) and (0, 1, 5), of sum (4, 3, 5) and mean 4; and a third
    # batch, an update of its own: (0, 6, 0).
    chosen = [[0] * 4 + [1] * 2, [1] + [2] * 5, [1] * 6]
    x = 9.0 * np.eye(3, dtype="float32")[np.array(chosen)][:, None]
    data = tf.data.Dataset.from_tensor_slices((x, x))
    Trainer(model, gradient_accumulation_steps=2).fit(data, verbose=0)
    first, second = np.array([0, 1, -1]), np.array([1, -1, 1])
    expected = 0.125 * (first + second) * trainable
    np.testing.assert_array_equal(router.expert_bias, expected)
    # Outside of the trainer a router moves by itself again.
    model(x[2], training=True)
    np.testing.assert_array_equal(
        router.expert_bias, expected + 0.125 * second * trainable
    )
