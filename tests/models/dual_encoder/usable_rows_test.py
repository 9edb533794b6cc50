"""Rows that are kept away from others before an encoder reads them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.layers import MeanPooling
from keras_moe.models import DualEncoder
from keras_moe.models.dual_encoder._usable_rows import usable_rows

STATES = np.random.default_rng(0).normal(size=(4, 3, 2)).astype("float32")


def test_ids_and_strings_cannot_be_told():
    inputs = [tf.constant([1, 2]), tf.constant(["a", ""]), tf.constant([True])]
    same, usable = usable_rows(inputs)
    assert usable is None and same is inputs


def test_what_is_not_finite_is_0_in_all_floats_of_the_row():
    x = {"a": STATES.copy(), "b": np.ones(4, "float16"), "ids": np.arange(4)}
    x["a"][1, 2, 0], x["b"][3] = np.inf, np.nan
    whole, usable = usable_rows(keras.tree.map_structure(tf.constant, x))
    assert usable.numpy().tolist() == [True, False, True, False]
    np.testing.assert_array_equal(whole["a"][0], STATES[0])
    assert not whole["a"].numpy()[[1, 3]].any()
    assert whole["b"].numpy().tolist() == [1, 0, 1, 0]
    assert whole["b"].dtype == tf.float16
    assert whole["ids"].numpy().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "pool", [MeanPooling, keras.layers.GlobalAveragePooling1D]
)
def test_a_mask_without_a_true_spoils_nothing(pool):
    """As long as the pooling gives 0 for it; what it gives is not answered."""
    states = keras.Input((3, 2), name="states")
    mask = keras.Input((3,), dtype="bool", name="padding_mask")
    flags = keras.Input((1,), dtype="bool", name="flags")
    pooled = keras.layers.Dense(2)(pool()(states, mask=mask))
    model = DualEncoder(
        keras.Model(
            {"states": states, "padding_mask": mask, "flags": flags}, pooled
        )
    )
    model.compile("sgd", run_eagerly=True)
    # A feature may be false.
    x = {"states": STATES, "flags": np.zeros((4, 1), bool)}
    x["padding_mask"] = np.ones((4, 3), bool)
    x["padding_mask"][2] = False
    batch = {"query": x, "document": x}
    vectors = model(batch)["query"].numpy()
    assert np.isnan(vectors).any(axis=1).tolist() == [False, False, True, False]
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, None, model(batch, training=True))
    gradient = tape.gradient(loss, model.trainable_variables[0]).numpy()
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all() == (pool is MeanPooling)
