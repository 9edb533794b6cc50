"""What the training loop does when things go wrong."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe.layers import SparseMoE
from keras_moe.training._build_state import build_state
from keras_moe.training._trainer import Trainer
from keras_moe.training.checkpoints._array_file import read_arrays
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._position import Position

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3, 4)).astype("float32")
Y = np.roll(X, 1, -1)


@tf.custom_gradient
def _spoils_backwards(x):
    def backward(upstream):
        return tf.where(tf.reduce_any(x > 50.0), np.nan, 1.0) * upstream

    return tf.identity(x), backward


class Spoiler(keras.layers.Layer):
    """The identity, but for numbers above 50.

    With `forward` it makes infinities of them, without, gradients that are not
    numbers.
    """

    def __init__(self, forward=True, **kwargs):
        super().__init__(**kwargs)
        self.forward = forward

    def call(self, x):
        if self.forward:
            return x / ops.cast(x < 50.0, x.dtype)
        return _spoils_backwards(x)


def make_model(forward=True, optimizer=None, sparse=False):
    """A small model; with `sparse` its state is more than its weights."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 4))
    x = keras.layers.Dropout(0.2)(inputs)
    x = keras.layers.Dense(4, kernel_initializer="identity", name="dense")(x)
    x = Spoiler(forward, name="spoiler")(x)
    # So that a large number spoils nothing else.
    x = ops.clip(x, -3.0, 3.0) if not forward else x
    # To trace it takes seconds.
    outputs = SparseMoE(2, 4, name="moe")(x) if sparse else x
    model = keras.Model(inputs, outputs, name="model")
    model.compile(
        optimizer or keras.optimizers.Adam(1e-3), "mse", metrics=["mae"]
    )
    return model


def data_of(x=X, y=Y):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(4)


def with_bad(*batches):
    """The data with a number in some batches that `Spoiler` spoils."""
    x = X.copy()
    for batch in batches:
        x[4 * batch + 1] = 100.0
    return x


def weights_of(model):
    return [np.asarray(weight) for weight in model.weights]


def assert_equal(received, expected):
    for mine, theirs in zip(received, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


class Crash(keras.callbacks.Callback):
    """Ends the process, as it were, before a batch."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at = (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "options, every, crash",
    [
        ({}, 2, (1, 5)),
        pytest.param({}, None, (2, 0), marks=pytest.mark.large),
        ({"steps_per_execution": 4}, 3, (1, 4)),
        ({"gradient_accumulation_steps": 2}, 1, (1, 4)),
    ],
)
def test_a_resumed_training_is_the_same(tmp_path, options, every, crash):
    def data(epoch):
        examples = tf.data.Dataset.from_tensor_slices((X, Y))
        return examples.shuffle(24, seed=epoch).batch(4)

    def train(directory, callbacks=None):
        model = make_model(sparse=True)
        checkpoints = Checkpoints(tmp_path / directory, every=every)
        trainer = Trainer(model, checkpoints, **options)
        history = trainer.fit(data, epochs=3, callbacks=callbacks, verbose=0)
        return history.history, weights_of(model), trainer.position

    history, weights, position = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("part", [Crash(*crash)])
    resumed, same_weights, same_position = train("part")
    assert position == same_position == Position(3, 0, position.step)
    # What was before the crash, and metrics of a part of an epoch, included.
    assert resumed == history and len(history["loss"]) == 3
    assert_equal(same_weights, weights)
    # What is finished is not trained again.
    again, same_weights, _ = train("whole")
    assert again == history
    assert_equal(same_weights, weights)


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"steps_per_execution": 4}, marks=pytest.mark.large),
    ],
)
@pytest.mark.parametrize(
    "forward, cause",
    [
        (True, "layer 'model/spoiler' (Spoiler): its inputs are finite"),
        (False, "the gradient of 'dense/"),
    ],
)
def test_a_batch_that_spoils_is_named_and_left_out(
    tmp_path, options, forward, cause
):
    model = make_model(forward, sparse=forward)
    checkpoints = Checkpoints(tmp_path / "bad", keep=99, every=1)
    trainer = Trainer(model, checkpoints, **options)
    with pytest.warns(UserWarning) as recorded:
        history = trainer.fit(data_of(with_bad(2)), epochs=2, verbose=0)
    assert trainer.position == Position(2, 0, 10, ((0, 2), (1, 2)))
    warned = [each for each in recorded if "left out" in str(each.message)]
    said = [str(each.message) for each in warned]
    assert len(said) == 2
    assert {each.filename for each in warned} == {__file__}  # `fit`'s caller
    for epoch, message in enumerate(said):
        assert f"not finite at epoch {epoch}, batch 2: {cause}" in message
    # As if the batch had never been in the data.
    kept = np.r_[0:8, 12:24]
    expected = make_model(forward, sparse=forward)
    expected_history = expected.fit(
        data_of(X[kept], Y[kept]), epochs=2, verbose=0
    )
    assert_equal(weights_of(model), weights_of(expected))
    assert history.history == expected_history.history
    # All that was saved is finite.
    assert len(checkpoints.paths) > 1
    for path in checkpoints.paths:
        for name, value in read_arrays(path)[0].items():
            assert np.isfinite(value).all(), (path, name)


def test_what_was_left_out_stays_so_after_a_restart(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=2)
    trainer = Trainer(make_model(), checkpoints)
    with (
        pytest.warns(UserWarning, match="batch 1.*left out"),
        pytest.raises(KeyboardInterrupt),
    ):
        trainer.fit(data_of(with_bad(1)), callbacks=[Crash(0, 5)], verbose=0)
    # Were it looked at again, it would be one too many.
    trainer = Trainer(make_model(), Checkpoints(tmp_path), max_retries=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.fit(data_of(with_bad(1)), verbose=0)
    assert trainer.position.skipped == ((0, 1),)


class Count(keras.callbacks.Callback):
    """Counts updates, and stops the training after some of them."""

    def __init__(self, stop_at):
        super().__init__()
        self.updates, self.stop_at = 0, stop_at

    def get_state(self):
        return {"updates": self.updates}

    def set_state(self, state):
        self.updates = state["updates"]

    def _stop_at_the_end(self):
        if self.updates >= self.stop_at:
            self.model.stop_training = True

    def on_train_begin(self, logs=None):
        self._stop_at_the_end()

    def on_train_batch_end(self, batch, logs=None):
        self.updates += 1
        self._stop_at_the_end()


def test_a_callback_that_has_a_state_resumes_and_stops_once(tmp_path):
    def train(*callbacks):
        model, count = make_model(), Count(8)
        trainer = Trainer(model, Checkpoints(tmp_path, every=2))
        history = trainer.fit(
            data_of(), epochs=9, callbacks=[count, *callbacks], verbose=0
        )
        return trainer.position, count.updates, history.history, model

    with pytest.raises(KeyboardInterrupt):
        train(Crash(0, 5))
    position, updates, history, model = train()
    assert position == Position(1, 2, 8) and updates == 8
    assert len(history["loss"]) == 2
    # Killed after the last update, it is at its end: not one update more.
    again = train()
    assert again[:3] == (position, updates, history)
    assert_equal(weights_of(again[-1]), weights_of(model))


def test_updates_that_are_made_again_count_once(tmp_path):
    count = Count(99)
    trainer = Trainer(make_model(), Checkpoints(tmp_path, every=2))
    with pytest.warns(UserWarning, match="left out"):
        trainer.fit(data_of(with_bad(3)), callbacks=[count], verbose=0)
    assert count.updates == trainer.position.step == 5


def test_too_many_bad_batches_end_the_training(tmp_path):
    trainer = Trainer(
        make_model(), Checkpoints(tmp_path, every=1), max_retries=2
    )
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(FloatingPointError) as error,
    ):
        trainer.fit(data_of(with_bad(0, 2, 3, 5)), verbose=0)
    message = str(error.value)
    assert "The loss is not finite at epoch 0, batch 3" in message
    assert "layer 'model/spoiler'" in message
    assert "max_retries=2" in message
    assert "[(0, 0), (0, 2)]" in message


def test_without_retries_the_first_one_does():
    """No checkpoint, no way back."""
    bad = X.copy()
    bad[9, 1, 2] = np.nan
    with pytest.raises(
        FloatingPointError,
        match="loss is not finite at epoch 0, batch 2: the input holds NaN",
    ):
        Trainer(make_model()).fit(data_of(bad), verbose=0)
    with pytest.raises(FloatingPointError, match="batch 2.*`checkpoints`"):
        Trainer(make_model(), steps_per_execution=4).fit(
            data_of(with_bad(2)), verbose=0
        )


def test_no_retries(tmp_path):
    trainer = Trainer(make_model(), Checkpoints(tmp_path), max_retries=0)
    with pytest.raises(FloatingPointError, match="batch 2: layer 'model/spoi"):
        trainer.fit(data_of(with_bad(2)), verbose=0)


def test_callbacks_see_an_epoch_once(tmp_path):
    calls = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: calls.append(("begin", epoch)),
        on_epoch_end=lambda epoch, logs: calls.append(("end", epoch)),
    )
    with pytest.warns(UserWarning, match="left out"):
        Trainer(make_model(), Checkpoints(tmp_path)).fit(
            data_of(with_bad(4)), epochs=2, callbacks=[callback], verbose=0
        )
    assert calls == [("begin", 0), ("end", 0), ("begin", 1), ("end", 1)]


def test_the_best_checkpoint_is_kept_by_what_was_logged(tmp_path):
    def made():
        return make_model(optimizer=keras.optimizers.SGD(2.0))

    checkpoints = Checkpoints(tmp_path, keep=1, monitor="val_loss")
    history = Trainer(made(), checkpoints).fit(
        data_of(), epochs=4, validation_data=data_of(), verbose=0
    )
    losses = history.history["val_loss"]
    model = made()
    build_state(model, next(iter(data_of())))
    position = checkpoints.restore_best(model)
    assert position.epoch == np.argmin(losses) + 1
    logs = model.evaluate(data_of(), verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(min(losses))


def test_data_of_unknown_length_is_saved_and_resumed(tmp_path):
    unknown = data_of().filter(lambda x, y: True)

    def train(directory, *callbacks):
        checkpoints = Checkpoints(tmp_path / directory, every=2)
        model = make_model()
        trainer = Trainer(model, checkpoints)
        trainer.fit(unknown, epochs=2, callbacks=callbacks, verbose=0)
        return weights_of(model), trainer.position, checkpoints

    with pytest.raises(KeyboardInterrupt):
        train("part", Crash(1, 3))
    # What was made in the first half of the second epoch is there.
    model = make_model()
    build_state(model, next(iter(unknown)))
    assert Checkpoints(tmp_path / "part").restore(model).step == 8
    weights, position, _ = train("part")
    expected, same_position, _ = train("whole")
    assert_equal(weights, expected)
    assert position == same_position == Position(2, 0, 12)


def test_a_training_that_was_stopped_goes_on_where_it_was(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 2

    model = make_model()
    trainer = Trainer(model, Checkpoints(tmp_path))
    trainer.fit(data_of(), epochs=2, callbacks=[Stop()], verbose=0)
    assert trainer.position == Position(0, 3, 3)
    trainer.fit(data_of(), epochs=2, verbose=0)
    expected = make_model()
    Trainer(expected).fit(data_of(), epochs=2, verbose=0)
    assert_equal(weights_of(model), weights_of(expected))
