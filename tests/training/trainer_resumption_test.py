"""A training that was ended and goes on is the same as one that was not."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.layers import SparseMoE
from keras_moe.training._build_state import build_state
from keras_moe.training._trainer import Trainer
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._position import Position
from tests.training.faults_case import Count
from tests.training.faults_case import Crash
from tests.training.faults_case import Stateful
from tests.training.faults_case import X
from tests.training.faults_case import Y
from tests.training.faults_case import assert_equal
from tests.training.faults_case import data_of
from tests.training.faults_case import make_model
from tests.training.faults_case import weights_of


@pytest.mark.parametrize(
    "stateful, options, every, crash",
    [
        (Stateful, {}, 2, (1, 5)),
        *(
            pytest.param(*each, marks=pytest.mark.large)
            for each in (
                (functools.partial(SparseMoE, 2, 4), {}, 2, (1, 5)),
                (Stateful, {}, None, (2, 0)),
                (Stateful, {"steps_per_execution": 4}, 3, (1, 4)),
                (Stateful, {"gradient_accumulation_steps": 2}, 1, (1, 4)),
            )
        ),
        (
            Stateful,
            {"steps_per_execution": 2, "gradient_accumulation_steps": 2},
            3,
            (1, 4),
        ),
    ],
)
def test_a_resumed_training_is_the_same(
    tmp_path, stateful, options, every, crash
):
    def data(epoch):
        examples = tf.data.Dataset.from_tensor_slices((X, Y))
        return examples.shuffle(24, seed=epoch).batch(4)

    def train(directory, callbacks=None):
        model = make_model(stateful=stateful)
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
