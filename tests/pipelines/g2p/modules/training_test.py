import keras
import numpy as np
import pytest

from keras_moe.models import SwitchTransformer
from pipelines.g2p.modules import training
from pipelines.g2p.modules.training import BudgetedSchedule
from pipelines.g2p.modules.training import TrainingConfig


def pairs(rows=40, pad_id=0, seed=0):
    """Sequences of 2 to 9 tokens, ended by 1 and padded; targets reversed."""
    random = np.random.default_rng(seed)
    source = np.full((rows, 10), pad_id)
    target = source.copy()
    for row, length in enumerate(random.integers(2, 10, rows)):
        ids = random.integers(3, 20, length)
        source[row, : length + 1] = [*ids, 1]
        target[row, : length + 1] = [*ids[::-1], 1]
    return source, target


class Special:
    def __init__(self, pad_id=0, start_id=0):
        self.pad_id, self.start_id = pad_id, start_id


@pytest.mark.parametrize("pad_id", [0, 25])
def test_batches_hold_every_row_once_and_little_padding(pad_id):
    source, target = pairs(pad_id=pad_id)
    special = Special(pad_id, start_id=2)
    seen = []
    for inputs, labels in training.batches(source, target, special, 7, None):
        ids = inputs["encoder_token_ids"].numpy()
        shifted = inputs["decoder_token_ids"].numpy()
        labels = labels.numpy()
        assert (ids[:, -1] != pad_id).any() and (labels[:, -1] != pad_id).any()
        assert (shifted[:, 0] == 2).all()
        assert (shifted[:, 1:] == labels[:, :-1]).all()
        for x, y in zip(ids, labels, strict=True):
            x, y = x[x != pad_id], y[y != pad_id]
            assert (y[:-1] == x[:-1][::-1]).all()
            seen.append(tuple(x))
    expected = [tuple(row[row != pad_id]) for row in source]
    assert sorted(seen) == sorted(expected)


def test_a_seed_makes_an_endless_repeatable_stream():
    source, target = pairs()

    def first(seed, count=20):
        stream = training.batches(source, target, Special(), 16, seed)
        return [y.numpy().tolist() for _, y in stream.take(count)]

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_a_zero_inside_a_sequence_is_not_cut_off_when_padding_is_another():
    ids = np.array([[0, 5, 9], [0, 6, 9]])
    assert training._trim(ids, 9).tolist() == [[0, 5], [0, 6]]
    assert training._trim(np.full((2, 3), 9), 9).shape == (2, 1)


def test_the_rate_rises_then_falls_to_zero_with_the_steps():
    config = TrainingConfig(
        steps=100, peak_learning_rate=2.0, warmup=0.1, max_minutes=0
    )
    schedule = BudgetedSchedule(config)
    rates = []
    for schedule.step in range(101):
        rates.append(schedule.learning_rate())
    assert rates[0] > 0
    assert np.argmax(rates) == 10 and rates[10] == pytest.approx(2.0)
    assert np.all(np.diff(rates[:11]) >= 0) and np.all(np.diff(rates[10:]) < 0)
    assert rates[100] == 0.0


def test_a_slow_machine_gets_a_shorter_complete_schedule(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    config = TrainingConfig(steps=1000, max_minutes=1)
    schedule = BudgetedSchedule(config)
    model = keras.Model()
    model.stop_training = False  # as `fit` begins
    schedule.set_model(model)
    schedule.on_train_batch_end(0)
    now[0] = 30.0
    schedule.on_train_batch_end(1)
    assert schedule.progress() == pytest.approx(0.5)
    assert not schedule.model.stop_training
    now[0] = 61.0
    schedule.on_train_batch_end(2)
    assert schedule.model.stop_training and schedule.learning_rate() == 0.0


def test_train_takes_the_steps_it_was_given():
    model = SwitchTransformer.from_preset(
        "switch_tiny",
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_experts=0,
    )
    source, target = pairs()
    history = training.train(
        model,
        source,
        target,
        (source[:8], target[:8]),
        TrainingConfig(steps=13, batch_size=8),
    )
    assert int(model.optimizer.iterations) == 13
    assert {"loss", "val_loss"} <= set(history.history)
    assert float(model.optimizer.learning_rate) < 1e-4


def test_errors():
    with pytest.raises(ValueError, match="`steps` must be positive.*steps=0"):
        TrainingConfig(steps=0)
    model = SwitchTransformer.from_preset("switch_tiny")
    source, target = pairs()
    with pytest.raises(ValueError, match="39 and 40"):
        training.train(model, source[1:], target, None, TrainingConfig())
    with pytest.raises(ValueError, match="0 and 0"):
        training.train(model, source[:0], target[:0], None, TrainingConfig())


@pytest.mark.large
def test_a_strategy_trains_what_one_device_does():
    from keras_moe import distribution

    source, target = pairs()
    config = TrainingConfig(steps=4, batch_size=8, max_minutes=0)
    losses = []
    for kind in ("default", "mirrored"):
        keras.utils.set_random_seed(0)
        with distribution.strategy(kind).scope():
            model = SwitchTransformer.from_preset("switch_tiny")
        history = training.train(model, source, target, None, config)
        assert int(np.array(model.optimizer.iterations)) == 4
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)
