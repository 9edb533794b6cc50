import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.training import Checkpoints
from keras_moe.training import Position
from keras_moe.training._worker_checkpoints import WorkerCheckpoints
from keras_moe.training._workers import Workers
from keras_moe.training.checkpoints._array_file import read_header


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def make(model, checkpoints):
    workers = Workers(tf.distribute.get_strategy())
    return WorkerCheckpoints(model, workers, checkpoints)


def test_without_checkpoints_nothing_is_done(model):
    checkpoints = make(model, None)
    assert not checkpoints.are_kept
    assert not checkpoints.are_due(step=10, updates=10)
    checkpoints.save(Position(), {})
    checkpoints.wait()
    assert checkpoints.restore() is None


def test_the_chief_saves_and_restores(model, tmp_path):
    own = Checkpoints(tmp_path, every=3)
    checkpoints = make(model, own)
    assert checkpoints.are_kept
    assert checkpoints.restore() is None
    assert [checkpoints.are_due(step, 2) for step in (2, 4, 5, 7)] == [
        *(False, True, False, True)
    ]
    position = Position(1, 2, 3)
    kernel = np.asarray(model.layers[0].kernel)
    checkpoints.save(position, {"loss": 0.5, "usage": np.ones(3)})
    model.layers[0].kernel.assign(kernel + 1)
    assert checkpoints.restore() == position
    np.testing.assert_array_equal(model.layers[0].kernel, kernel)
    # Metrics that are arrays cannot be monitored.
    assert read_header(own.latest)["metrics"] == {"loss": 0.5}


def test_workers_that_are_not_the_chief_write_nothing(model, tmp_path):
    checkpoints = make(model, Checkpoints(tmp_path))
    checkpoints.workers.is_chief = False
    checkpoints.save(Position(), {})
    checkpoints.wait()
    assert list(tmp_path.iterdir()) == []


def test_workers_that_see_other_checkpoints_are_refused(
    model, tmp_path, monkeypatch
):
    checkpoints = make(model, Checkpoints(tmp_path))
    checkpoints.save(Position(step=4), {})
    monkeypatch.setattr(checkpoints.workers, "differ", lambda value: True)
    with pytest.raises(RuntimeError, match="Received: step 4 in worker 0"):
        checkpoints.restore()
