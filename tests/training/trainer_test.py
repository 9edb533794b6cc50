"""The training loop on one device, against Keras's own."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.layers import SparseMoE
from keras_moe.training._build_state import build_state
from keras_moe.training._trainer import Trainer
from tests.training.faults_case import Stateful

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3, 4)).astype("float32")
Y = np.roll(X, 1, -1)
WEIGHTS = RNG.random((22, 3)).astype("float32")
# To trace it takes seconds: `Stateful`, too, has losses, metrics and a state.
SPARSE = functools.partial(SparseMoE, 2, 4, name="moe")
STATEFUL = functools.partial(Stateful, name="stateful")


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.large)])
def sparse(request):
    return request.param


def make_model(optimizer="adam", sparse=False, layer=None, **options):
    """A small model; with `sparse` it has losses and metrics of its own."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 4))
    x = keras.layers.Dropout(0.2)(inputs)
    if layer is None:
        layer = SPARSE if sparse else functools.partial(keras.layers.Dense, 4)
    outputs = layer()(x)
    model = keras.Model(inputs, outputs)
    options = {"loss": "mse", "metrics": ["mae"], **options}
    model.compile(optimizer, jit_compile=False, **options)
    return model


def data_of(*arrays, batch_size=4):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size)


def assert_equal_weights(first, second, atol=0.0):
    for mine, theirs in zip(first.weights, second.weights, strict=True):
        np.testing.assert_allclose(
            mine, theirs, rtol=0, atol=atol, err_msg=mine.path
        )


class Recorder(keras.callbacks.Callback):
    """Writes down what is called, and what is logged."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.calls = []
        self.stop_at = stop_at

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("epoch", epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("end of epoch", epoch, dict(logs)))

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(("batch", batch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("end of batch", batch, dict(logs)))
        if batch == self.stop_at:
            self.model.stop_training = True

    def on_train_begin(self, logs=None):
        self.calls.append("train")

    def on_train_end(self, logs=None):
        self.calls.append("end of train")


@pytest.mark.parametrize(
    ("layer", "weighted"),
    [
        pytest.param(None, False, marks=pytest.mark.large),
        (STATEFUL, True),
        pytest.param(SPARSE, True, marks=pytest.mark.large),
        pytest.param(SPARSE, False, marks=pytest.mark.large),
    ],
)
def test_it_trains_as_keras_does(layer, weighted):
    arrays = (X, Y, WEIGHTS) if weighted else (X, Y)
    results = []
    for own in (True, False):
        model, recorder = make_model(layer=layer), Recorder()
        if not own:  # or Keras traces the step twice
            build_state(model, next(iter(data_of(*arrays))))
        fit = Trainer(model).fit if own else model.fit
        history = fit(
            data_of(*arrays),
            epochs=2,
            validation_data=data_of(X[:6], Y[:6]),
            callbacks=[recorder],
            verbose=0,
        )
        results.append((model, history.history, recorder.calls))
    (model, history, calls), (other, expected, told) = results
    assert history == expected
    assert calls == told
    assert_equal_weights(model, other)
    assert Trainer(model).evaluate(data_of(*arrays)) == other.evaluate(
        data_of(*arrays), verbose=0, return_dict=True
    )


def test_several_updates_a_call_are_as_single_ones(sparse):
    model, other = make_model(sparse=sparse), make_model(sparse=sparse)
    history = Trainer(model, steps_per_execution=4).fit(
        data_of(X, Y), epochs=2, verbose=0
    )
    # One trainer, several calls of it.
    trainer = Trainer(other)
    trainer.fit(data_of(X, Y), verbose=0)
    expected = trainer.fit(data_of(X, Y), epochs=2, initial_epoch=1, verbose=0)
    assert_equal_weights(model, other)
    for name, values in history.history.items():
        assert values[1:] == expected.history[name], name


def test_callbacks_run_between_calls(sparse):
    recorder = Recorder()
    Trainer(make_model(sparse=sparse), steps_per_execution=4).fit(
        data_of(X, Y), callbacks=[recorder], verbose=0
    )
    batches = [call[:2] for call in recorder.calls if "batch" in call[0]]
    assert batches == [
        ("batch", 0),
        ("end of batch", 3),
        ("batch", 4),
        ("end of batch", 5),
    ]


def test_an_update_takes_the_mean_of_several_batches(sparse):
    model = make_model(sparse=sparse)
    Trainer(model, gradient_accumulation_steps=3).fit(
        data_of(X[:12], Y[:12]), epochs=2, verbose=0
    )
    accumulating = keras.optimizers.Adam(gradient_accumulation_steps=3)
    other = make_model(accumulating, sparse=sparse)
    build_state(other, (X[:4], Y[:4]))
    history = other.fit(data_of(X[:12], Y[:12]), epochs=2, verbose=0)
    # Keras sums in another order.
    assert_equal_weights(model, other, atol=1e-7)
    assert int(np.asarray(model.optimizer.iterations)) == 2
    assert len(history.history["loss"]) == 2


def test_the_last_update_of_an_epoch_takes_what_is_left():
    def linear():
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(1, kernel_initializer="ones"),
            ]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        return model

    x, y = X[:, 0], X[:, 1, :1]
    model = linear()
    trainer = Trainer(model, gradient_accumulation_steps=2)
    trainer.fit(data_of(x[:12], y[:12]), verbose=0)
    kernel, bias = np.ones((4, 1)), np.zeros(1)
    for rows in (slice(0, 8), slice(8, 12)):
        error = x[rows] @ kernel + bias - y[rows]
        kernel = kernel - 0.1 * 2 * x[rows].T @ error / len(error)
        bias = bias - 0.1 * 2 * error.mean(0)
    np.testing.assert_allclose(model.weights[0], kernel, rtol=1e-5)
    np.testing.assert_allclose(model.weights[1], bias, rtol=1e-5)
    assert trainer.position.step == 2


def test_a_data_set_goes_on_over_epochs(sparse):
    # 6 batches; epochs of 4 begin at 0, 4 and, in the second round, 2.
    model, other = make_model(sparse=sparse), make_model(sparse=sparse)
    history = Trainer(model).fit(
        data_of(X, Y), epochs=3, steps_per_epoch=4, verbose=0
    )
    expected = other.fit(
        data_of(X, Y).repeat(), epochs=3, steps_per_epoch=4, verbose=0
    )
    assert history.history == expected.history
    assert_equal_weights(model, other)


def test_data_may_be_a_function_of_the_epoch(sparse):
    asked = []

    def data(epoch):
        asked.append(epoch)
        return data_of(X[epoch * 8 :][:8], Y[epoch * 8 :][:8])

    model, other = make_model(sparse=sparse), make_model(sparse=sparse)
    Trainer(model).fit(data, epochs=2, verbose=0)
    Trainer(other).fit(data_of(X[:16], Y[:16]), verbose=0)
    assert_equal_weights(model, other)
    assert set(asked) == {0, 1}


def test_data_of_unknown_length_ends_where_it_ends(sparse):
    model, other = make_model(sparse=sparse), make_model(sparse=sparse)
    unknown = data_of(X, Y).filter(lambda x, y: True)
    history = Trainer(model).fit(
        unknown, epochs=2, validation_data=unknown, verbose=0
    )
    expected = Trainer(other).fit(
        data_of(X, Y), epochs=2, validation_data=data_of(X, Y), verbose=0
    )
    assert history.history == expected.history
    with pytest.raises(ValueError, match="`steps_per_epoch` must be given"):
        Trainer(model, steps_per_execution=2).fit(unknown, verbose=0)
    history = Trainer(model, steps_per_execution=2).fit(
        unknown, steps_per_epoch=6, verbose=0
    )
    assert len(history.history["loss"]) == 1


def test_an_evaluation_looks_at_as_many_batches_as_it_is_told(sparse):
    model = make_model(sparse=sparse)
    expected = model.evaluate(
        data_of(X[:8], Y[:8]), verbose=0, return_dict=True
    )
    trainer = Trainer(model)
    endless = data_of(X, Y).repeat()
    assert trainer.evaluate(endless, steps=2) == expected
    with pytest.raises(ValueError, match="`data` must have an end"):
        trainer.evaluate(endless)


def test_a_callback_stops_the_training(sparse):
    recorder = Recorder(stop_at=2)
    model = make_model(sparse=sparse)
    history = Trainer(model).fit(
        data_of(X, Y), epochs=3, callbacks=[recorder], verbose=0
    )
    assert len(history.history["loss"]) == 1
    assert [c for c in recorder.calls if c[0] == "batch"][-1] == ("batch", 2)
    assert recorder.calls[-1] == "end of train"
    assert int(np.asarray(model.optimizer.iterations)) == 3


def test_progress_is_shown(capsys, sparse):
    trainer = Trainer(make_model(sparse=sparse))
    trainer.fit(data_of(X, Y), verbose=0)
    assert capsys.readouterr().out == ""
    trainer.fit(data_of(X, Y), epochs=2, initial_epoch=1, verbose=2)
    said = capsys.readouterr().out
    assert "Epoch 2/2" in said
    assert "6/6" in said
    assert "loss: " in said


@pytest.mark.parametrize(
    "made, options, message",
    [
        (lambda: "model", {}, "`model` must be a `keras.Model`"),
        (lambda: keras.Sequential(), {}, "`model` must be compiled"),
        (
            lambda: make_model(run_eagerly=True),
            {},
            "must be compiled with `run_eagerly=False`",
        ),
        (
            lambda: make_model(steps_per_execution=2),
            {},
            "`steps_per_execution` must be given to `Trainer`",
        ),
        (
            lambda: make_model(
                keras.optimizers.SGD(gradient_accumulation_steps=2)
            ),
            {"gradient_accumulation_steps": 2},
            "`gradient_accumulation_steps` must be given to `Trainer`",
        ),
        (make_model, {"steps_per_execution": 0}, "must be a positive integer"),
        (make_model, {"max_retries": -1}, "`max_retries` must not be negative"),
    ],
)
def test_what_cannot_be_trained_is_refused(made, options, message):
    with pytest.raises(ValueError, match=message):
        Trainer(made(), **options)


@pytest.mark.parametrize(
    "data, options, message",
    [
        ((X, Y), {}, "`data` must be a `tf.data.Dataset`"),
        (lambda epoch: X, {}, "`data` must return a `tf.data.Dataset`"),
        (data_of(X, Y).repeat(), {}, "`data` must have an end, or"),
        (data_of(X, Y), {"epochs": 0}, "`epochs` must be a positive integer"),
    ],
)
def test_data_without_a_use_is_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        Trainer(make_model()).fit(data, verbose=0, **options)
