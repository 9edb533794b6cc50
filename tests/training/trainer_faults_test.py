"""What the training loop does with batches that spoil the model."""

import warnings

import keras
import numpy as np
import pytest

from keras_moe.training._build_state import build_state
from keras_moe.training._trainer import Trainer
from keras_moe.training.checkpoints._array_file import read_arrays
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
from tests.training.faults_case import with_bad


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
    stateful = Stateful if forward else None
    model = make_model(forward, stateful=stateful)
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
    expected = make_model(forward, stateful=stateful)
    build_state(expected, (X[:4], Y[:4]))  # or Keras traces the step twice
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
