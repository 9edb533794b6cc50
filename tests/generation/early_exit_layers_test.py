"""Which layers run, and after which of them a token may leave."""

import numpy as np
import pytest
import tensorflow as tf

from tests.covering import covering
from tests.generation.early_exit_case import LENGTH
from tests.generation.early_exit_case import assert_same
from tests.generation.early_exit_case import assert_varied
from tests.generation.early_exit_case import compiled
from tests.generation.early_exit_case import expected_answer
from tests.generation.early_exit_case import make_model
from tests.generation.early_exit_case import make_source
from tests.generation.early_exit_case import policy
from tests.generation.early_exit_case import run

IDS = make_source()
NUM_LAYERS = 4


@pytest.fixture(scope="module")
def model():
    return make_model()


# === What is computed ===


class Log:
    """Writes down what each layer is given, while the graph runs."""

    def __init__(self, model):
        self.steps = []
        self.remembered = []
        for layer, block in enumerate(model.decoder.blocks, start=1):
            block.step = self.noting(block.step, layer, self.steps)
            block.remember = self.noting(block.remember, layer, self.remembered)

    @staticmethod
    def noting(function, layer, log):
        def note(x):
            log.append((layer, x.shape[1]))
            return x

        def noted(inputs, *args, **kwargs):
            through = tf.numpy_function(note, [inputs], inputs.dtype)
            return function(
                tf.ensure_shape(through, inputs.shape), *args, **kwargs
            )

        return noted

    def __call__(self, decode, *args):
        """Runs; returns the answer and each position's layers that ran."""
        self.steps.clear()
        self.remembered.clear()
        answer = decode(*args)
        positions = []
        for layer, count in self.steps:
            if layer == 1:
                positions.append({})
            assert layer not in positions[-1]
            positions[-1][layer] = count
        return answer, positions


@pytest.fixture(scope="module", params=["deferred", "eager"])
def watched(request):
    """A decoder, its log and how it propagates."""
    model = make_model()
    log = Log(model)
    decode = compiled(model, policy(propagation=request.param))
    return decode, log, request.param


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.45, 0.6, 2.0])
def test_no_layer_runs_for_nothing(watched, threshold):
    decode, log, propagation = watched
    answer, positions = log(decode, IDS, threshold)
    spoken = answer["exit_layer"].max(axis=0)
    # Ended rows, whose exit layer is 0, keep nothing running.
    assert len(positions) == np.count_nonzero(spoken)
    for layers, highest in zip(positions, spoken, strict=False):
        assert sorted(layers) == list(range(1, highest + 1))
    if propagation == "deferred":
        assert not log.remembered


def test_each_layer_is_given_each_position_once(watched):
    decode, log, propagation = watched
    answer, positions = log(decode, IDS, 0.3)
    assert_varied(answer)
    skipped = 0
    for layer in range(1, NUM_LAYERS + 1):
        seen = 0
        for position, layers in enumerate(positions, start=1):
            if layer in layers:
                seen += layers[layer]
                assert seen == position
            elif propagation == "eager":
                seen += 1
            skipped += layer not in layers
    assert skipped > 0
    if propagation == "eager":
        assert len(log.remembered) == skipped
        assert {count for _, count in log.remembered} == {1}


def test_an_ended_row_keeps_no_layer_running(watched):
    decode, log, _ = watched
    full, _ = log(decode, IDS, 2.0)
    lengths = (full["exit_layer"] > 0).sum(axis=1)
    row = int(np.argmin(np.where(lengths > 0, lengths, LENGTH)))
    assert 0 < lengths[row] < LENGTH
    # This row never leaves early, all others always do.
    thresholds = np.full(len(IDS), -1.0, "float32")
    thresholds[row] = np.nan
    answer, positions = log(decode, IDS, thresholds)
    np.testing.assert_array_equal(
        answer["token_ids"][row], full["token_ids"][row]
    )
    highest = [max(layers) for layers in positions]
    rest = len(positions) - lengths[row]
    assert rest > 0
    assert highest == [NUM_LAYERS] * lengths[row] + [1] * rest


# === Where tokens may leave ===


@pytest.mark.parametrize(
    "first, interval, exits",
    [
        (2, 1, (2, 3)),
        (4, 1, ()),
        (1, 2, (1, 3)),
        *(
            pytest.param(*each, marks=pytest.mark.large)
            for each in (
                (3, 1, (3,)),
                (2, 2, (2,)),
                (1, 3, (1,)),
                (1, 9, (1,)),
            )
        ),
    ],
)
def test_exits(model, first, interval, exits):
    early_exit = policy(min_exit_layer=first, exit_interval=interval)
    answer = run(model, IDS, early_exit)
    depths = answer["exit_layer"]
    assert set(depths[depths > 0]) == {*exits, NUM_LAYERS}
    assert_same(answer, expected_answer(model, IDS, early_exit, exits=exits))


def test_saturation_is_of_one_layer(model):
    # Not of all layers since the last exit.
    early_exit = policy("state", threshold=0.8, min_exit_layer=2)
    answer = run(model, IDS, early_exit)
    assert set(answer["exit_layer"].ravel()) == {0, 2, 3, 4}
    assert_same(answer, expected_answer(model, IDS, early_exit, exits=(2, 3)))


# === Thresholds that fall ===


@pytest.mark.parametrize(
    ("confident", "falling"),
    covering(
        [("softmax", 0.35), ("state", 0.9)],
        [("calm", 4.0), ("t5x", 1.5)],
        strength=1,
    ),
)
def test_decay(model, confident, falling):
    (confidence, threshold), (decay, temperature) = confident, falling
    early_exit = policy(
        confidence,
        threshold=threshold,
        decay=decay,
        decay_temperature=temperature,
    )
    answer = run(model, IDS, early_exit)
    assert_varied(answer)
    assert_same(answer, expected_answer(model, IDS, early_exit))
    constant = run(model, IDS, policy(confidence, threshold=threshold))
    assert np.any(answer["exit_layer"] != constant["exit_layer"])
