import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_file_loader

from keras_moe import layers
from keras_moe.visualization import ExpertLoadCallback
from keras_moe.visualization import plot_expert_load
from tests.visualization.collect_expert_load_test import DIM
from tests.visualization.collect_expert_load_test import counted
from tests.visualization.collect_expert_load_test import data
from tests.visualization.collect_expert_load_test import make


def fit(model, x, run_eagerly=True, **kwargs):
    # A rate of 0: the router stays what it is, and the test knows the loads.
    model.compile(
        keras.optimizers.SGD(0.0),
        "mse",
        jit_compile=False,
        run_eagerly=run_eagerly,
    )
    return model.fit(x, x, batch_size=2, verbose=2, **kwargs)


def pictures(log_dir):
    """The images of an event file, by step, as arrays."""
    found = {}
    for path in sorted(log_dir.iterdir()):
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                assert value.tag == "expert_load"
                width, height, *encoded = value.tensor.string_val
                image = tf.io.decode_png(encoded[0]).numpy()
                assert image.shape[:2] == (int(height), int(width))
                found[event.step] = image
    return found


def test_the_history_has_the_loads_of_training():
    model, x = make(jitter_noise=0.0), data(6, 5)
    # Validation, which runs last, sees other tokens.
    other = np.tile(data(1, 1), (6, 5, 1))
    history = fit(
        model,
        x,
        run_eagerly=False,
        epochs=3,
        validation_data=(other, other),
        validation_freq=2,
        callbacks=[ExpertLoadCallback()],
    )
    loads = history.history["first/expert_load"]
    assert np.shape(loads) == (3, 4)
    assert np.shape(history.history["second/expert_load"]) == (3, 3)
    expected = counted(model.get_layer("first"), x, 4)
    for load in loads:
        np.testing.assert_allclose(load, expected, rtol=1e-5)
    # The scalar of the logs is of the same load.
    cv = np.std(expected) / np.mean(expected)
    assert history.history["first/expert_load_cv"] == pytest.approx([cv] * 3)
    figure = plot_expert_load(history, epoch=1)
    shown = figure.axes[0].images[0].get_array()[0].filled(0)
    np.testing.assert_allclose(shown, 4 * np.array(expected), rtol=1e-5)


def test_the_picture_has_the_share_that_was_dropped(run_eagerly):
    model = make(jitter_noise=0.0, capacity_factor=0.5, min_expert_capacity=1)
    x = np.tile(data(1, 1), (2, 5, 1))
    history = fit(model, x, run_eagerly, callbacks=[ExpertLoadCallback()])
    # Half of an even share, 10 / 4 * 0.5, rounded up: 2 of 10 stay.
    share = history.history["first/fraction_tokens_left_behind"][-1]
    assert share == pytest.approx(0.8)
    bars = plot_expert_load(history).axes[1]
    assert bars.texts[0].get_text() == "80.0 %"


def test_tensorboard_shows_the_picture(tmp_path, run_eagerly):
    model, x = make(jitter_noise=0.0), data(4, 5)
    callback = ExpertLoadCallback(log_dir=tmp_path, every=2)
    fit(model, x, run_eagerly, epochs=3, callbacks=[callback])
    found = pictures(tmp_path)
    assert list(found) == [0, 2]
    for image in found.values():
        assert image.shape[-1] == 4 and image.std() > 0
        assert min(image.shape[:2]) > 150
    # Trained on, the next epochs are added.
    fit(
        model,
        x,
        run_eagerly,
        epochs=5,
        initial_epoch=4,
        callbacks=[callback],
    )
    assert set(pictures(tmp_path)) == {0, 2, 4}


def test_a_model_without_experts_is_refused():
    model = keras.Sequential([keras.Input((DIM,)), keras.layers.Dense(DIM)])
    with pytest.raises(ValueError, match="have a `keras_moe.layers.SparseMoE`"):
        fit(model, data(4), callbacks=[ExpertLoadCallback()])
    with pytest.raises(ValueError, match="`every` must be a positive integer"):
        ExpertLoadCallback(every=0)


def test_a_subclassed_model_built_by_fit(run_eagerly):
    class Wrapped(keras.Model):
        def __init__(self):
            super().__init__()
            self.moe = layers.SparseMoE(4, 8)

        def call(self, inputs):
            return inputs + self.moe(inputs)

    history = fit(
        Wrapped(), data(4, 5), run_eagerly, callbacks=[ExpertLoadCallback()]
    )
    (key,) = (k for k in history.history if k.endswith("/expert_load"))
    assert np.sum(history.history[key][0]) == pytest.approx(1.0)
