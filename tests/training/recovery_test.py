"""Going back to a checkpoint, and leaving bad batches out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.training import Checkpoints
from keras_moe.training import Position
from keras_moe.training import build_state
from keras_moe.training._epoch_batches import EpochBatches
from keras_moe.training._recovery import Recovery
from keras_moe.training._worker_checkpoints import WorkerCheckpoints
from keras_moe.training._workers import Workers
from keras_moe.training.nonfinite._nonfinite_error import NonfiniteError

X = np.arange(12, dtype="float32").reshape(6, 2)


def make_model():
    layer = keras.layers.Dense(2, name="dense")
    model = keras.Sequential([keras.Input([2]), layer], name="model")
    model.compile("sgd", "mse")
    return model


def batches_of(x=X):
    data = tf.data.Dataset.from_tensor_slices((x, x)).batch(1)
    batches = EpochBatches(data, tf.distribute.get_strategy())
    batches.seek(0)
    return batches


def recovery_of(model, directory=None, max_retries=3):
    build_state(model, batches_of().element_spec())
    checkpoints = None if directory is None else Checkpoints(directory)
    workers = Workers(model.distribute_strategy)
    return Recovery(
        model, WorkerCheckpoints(model, workers, checkpoints), max_retries
    )


def with_nan(batch):
    x = X.copy()
    x[batch, 1] = np.nan
    return x


def test_goes_back_to_the_last_checkpoint(tmp_path):
    model = make_model()
    recovery = recovery_of(model, tmp_path)
    kernel = np.asarray(model.layers[0].kernel)
    recovery.checkpoints.save(Position(0, 2, 2, ((0, 1),)), {})
    model.layers[0].kernel.assign(np.full((2, 2), np.nan))
    found = NonfiniteError(0, 4)
    # Of the batches left out, one came after the checkpoint.
    now = Position(0, 4, 4, ((0, 1), (0, 3)))
    assert recovery.go_back(found, now, batches_of()) == Position(
        0, 2, 2, ((0, 1), (0, 3))
    )
    np.testing.assert_array_equal(model.layers[0].kernel, kernel)
    assert recovery.suspect is found


def test_without_checkpoints_the_cause_is_an_error():
    recovery = recovery_of(make_model())
    with pytest.raises(
        FloatingPointError,
        match=r"epoch 0, batch 4: the input holds NaN \(1 of 2 values: 1 NaN\)"
        r"\.$",
    ):
        recovery.go_back(
            NonfiniteError(0, 4), Position(0, 4), batches_of(with_nan(4))
        )
    assert recovery.suspect is None


def test_without_checkpoints_spoilt_variables_are_told():
    recovery = recovery_of(make_model())
    recovery.model.layers[0].bias.assign([np.nan, 0.0])
    with pytest.raises(FloatingPointError, match="give `checkpoints` to know"):
        recovery.go_back(NonfiniteError(0, 4), Position(0, 4), batches_of())
    # Nothing would be saved: nothing is checked.
    recovery.check_variables(Position(0, 4))


def test_a_checkpoint_that_is_gone_is_an_error(tmp_path):
    recovery = recovery_of(make_model(), tmp_path)
    with pytest.raises(FloatingPointError, match="not finite at epoch 0"):
        recovery.go_back(NonfiniteError(0, 4), Position(0, 4), batches_of())


def test_variables_are_checked_before_they_are_saved(tmp_path):
    recovery = recovery_of(make_model(), tmp_path)
    recovery.check_variables(Position(1, 5))
    recovery.model.layers[0].bias.assign([np.inf, 0.0])
    with pytest.raises(NonfiniteError) as error:
        recovery.check_variables(Position(1, 5))
    assert error.value.where == (1, 4)
    assert error.value.in_update


def test_good_batches_are_trained_on(tmp_path):
    recovery, batches = recovery_of(make_model(), tmp_path), batches_of()
    assert recovery.leave_out(Position(0, 0), batches) is None
    recovery.suspect = NonfiniteError(1, 0)
    assert recovery.leave_out(Position(0, 0), batches) is None
    np.testing.assert_array_equal(batches.iterator.get_next()[0], X[:1])


def test_a_batch_known_as_bad_is_passed_over_in_silence(tmp_path, recwarn):
    recovery, batches = recovery_of(make_model(), tmp_path), batches_of()
    position = Position(0, 0, 7, ((0, 0),))
    assert recovery.leave_out(position, batches) == position._replace(batch=1)
    np.testing.assert_array_equal(batches.iterator.get_next()[0], X[1:2])
    assert not recwarn.list


def test_a_suspect_is_named_and_passed_over(tmp_path):
    recovery = recovery_of(make_model(), tmp_path, max_retries=1)
    batches = batches_of(with_nan(0))
    recovery.suspect = NonfiniteError(0, 0)
    with pytest.warns(
        UserWarning, match="epoch 0, batch 0: the input holds NaN .* left out"
    ):
        after = recovery.leave_out(Position(0, 0, 7), batches)
    assert after == Position(0, 1, 7, ((0, 0),))
    assert recovery.suspect is None
    np.testing.assert_array_equal(batches.iterator.get_next()[0], X[1:2])


def test_no_more_than_max_retries_are_left_out(tmp_path):
    recovery = recovery_of(make_model(), tmp_path, max_retries=1)
    recovery.suspect = NonfiniteError(0, 2)
    batches = batches_of(with_nan(2))
    batches.seek(0, 2)
    with pytest.raises(
        FloatingPointError,
        match=r"batch 2: the input holds NaN.*max_retries=1.*\[\(0, 1\)\]",
    ):
        recovery.leave_out(Position(0, 2, 1, ((0, 1),)), batches)


def test_updates_are_single_up_to_a_suspect(tmp_path):
    recovery = recovery_of(make_model(), tmp_path)
    position = Position(0, 1)
    assert recovery.batches_to_take(position, 20, 2, 4) == 8
    recovery.suspect = NonfiniteError(0, 9)
    assert recovery.batches_to_take(position, 20, 2, 4) == 2
    # The last update before the suspect takes what is left.
    assert recovery.batches_to_take(Position(0, 8), 20, 2, 4) == 1
    assert recovery.batches_to_take(Position(0, 8), None, 4, 1) == 1
