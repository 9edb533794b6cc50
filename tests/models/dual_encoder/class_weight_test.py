"""Weights of classes, which keys are not."""

import keras
import numpy as np
import pytest

from keras_moe.models import DualEncoder

X = {"query": np.eye(4), "document": np.eye(4)}


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
@pytest.mark.parametrize("y", [None, np.arange(4)])
def test_refuses_weights_of_classes(method, y):
    model = DualEncoder(keras.Sequential([keras.layers.Dense(3)]))
    model.compile("sgd", run_eagerly=True)
    weights = {0: 1.0, 1: 2.0, 2: 1.0, 3: 1.0}
    with pytest.raises(ValueError, match="`class_weight` must be left out"):
        getattr(model, method)(X, y, class_weight=weights)
    assert not model.built
    assert np.isfinite(model.train_on_batch(X, y)).all()
