"""State that moves in the forward pass, where the training goes back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from keras_moe.training import Checkpoints
from keras_moe.training import Trainer

X = np.random.default_rng(0).normal(size=(6, 2, 5, 4)).astype("float32")


def train(batches, directory):
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
    Trainer(model, Checkpoints(directory, every=2)).fit(data, verbose=0)
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
