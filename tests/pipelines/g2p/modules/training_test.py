import functools

import keras
import numpy as np
import pytest

from keras_moe.models import SwitchTransformer
from keras_moe.training import Checkpoints
from pipelines.g2p.modules import training
from pipelines.g2p.modules.batches import array_pairs
from pipelines.g2p.modules.batches import evaluation_batches
from pipelines.g2p.modules.batches import training_batches
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


def tiny(**options):
    options = {"num_encoder_layers": 1, "num_experts": 0, **options}
    return SwitchTransformer.from_preset(
        "switch_tiny", num_decoder_layers=1, **options
    )


def passes_of(source, target):
    """Five batches of eight rows, in another order in each pass."""
    rows = functools.partial(array_pairs, source, target)
    return training_batches(rows, Special(), 8, seed=0)


def held_out_of(source, target):
    rows = functools.partial(array_pairs, source[:8], target[:8])
    return evaluation_batches(rows, Special(), 8)


class Calls(keras.callbacks.Callback):
    """Keeps the loss after each update, of all that were not undone."""

    def __init__(self, kill_at=None):
        super().__init__()
        self.losses, self.kill_at = [], kill_at

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])
        if len(self.losses) == self.kill_at:
            raise KeyboardInterrupt

    def get_state(self):
        return {"losses": list(self.losses)}

    def set_state(self, state):
        self.losses = state["losses"]


def test_train_takes_the_steps_it_was_given():
    source, target = pairs()
    held_out = held_out_of(source, target)
    model = tiny()
    config = TrainingConfig(steps=13, batch_size=8)
    history = training.train(model, passes_of(source, target), held_out, config)
    assert int(model.optimizer.iterations) == 13
    # After each pass of five, and at the end.
    assert len(history.history["val_loss"]) == len(history.history["loss"]) == 3
    assert float(model.optimizer.learning_rate) < 1e-4


def test_short_passes_are_joined():
    passes = passes_of(*pairs())
    # A tenth of the steps are 15 batches, which take three passes.
    epochs = training._epochs(passes, 150)
    joined = [labels.numpy().tolist() for _, labels in epochs(2)]
    numbers = (6, 7, 8)
    expected = [y.numpy().tolist() for n in numbers for _, y in passes(n)]
    assert joined == expected and len(joined) == 15
    # Long ones are epochs by themselves.
    assert training._epochs(passes, 50) is passes


def test_errors():
    def empty(number):
        return passes_of(*pairs())(number).take(0)

    with pytest.raises(ValueError, match="`batches` must give batches"):
        training.train(tiny(), empty, None, TrainingConfig())


@pytest.mark.large
@pytest.mark.parametrize("kill_at", [4, 17])
def test_a_killed_training_resumes(tmp_path, kill_at):
    source, target = pairs()
    held_out = held_out_of(source, target)
    config = TrainingConfig(steps=20, batch_size=8, max_minutes=0)

    def train(folder, kill_at=None):
        keras.utils.set_random_seed(0)
        model, calls = tiny(num_experts=2), Calls(kill_at)
        history = training.train(
            model,
            passes_of(source, target),
            held_out,
            config,
            [calls],
            Checkpoints(tmp_path / folder, every=3),
        )
        return history.history, calls.losses, model.get_weights()

    history, losses, weights = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("part", kill_at)
    resumed = train("part")
    assert resumed[0] == history and len(history["val_loss"]) == 4
    assert resumed[1] == losses and len(losses) == 20
    for mine, theirs in zip(resumed[2], weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    # Killed after its end, before anything was exported.
    again = train("part")
    assert again[:2] == (history, losses)


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
        history = training.train(model, passes_of(source, target), None, config)
        assert int(np.array(model.optimizer.iterations)) == 4
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)
