from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.losses import enabled_exits
from keras_moe.losses import exit_layers
from keras_moe.losses import exit_weights
from keras_moe.losses._exit_weights import WEIGHTINGS

LADDERS = st.builds(
    lambda top, first, interval: exit_layers(top, min(first, top), interval),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 4),
)


def reference(layers, weighting, scale):
    """One exit at a time; layers counted from 0, as the papers do."""
    top = layers[-1] - 1
    raw = []
    for index, layer in enumerate(n - 1 for n in layers):
        factor = 1.0 if layer == top else scale
        if weighting == "uniform":
            raw.append(factor)
        elif weighting == "linear":
            raw.append(factor * (layer + 1))
        elif weighting == "geometric":
            raw.append(factor * 2.0**index)
        elif layer < top:
            raw.append(scale * sum(range(layer + 1)))
        else:
            raw.append(top + scale * sum(range(top)))
    return np.array(raw) / sum(raw) if sum(raw) else np.ones(len(raw))


# === Layers ===


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 9))
def test_layers_climb_to_the_last(top, first, interval):
    first = min(first, top)
    layers = exit_layers(top, first, interval)
    assert layers[0] == first
    assert layers[-1] == top
    steps = np.diff(layers)
    assert (steps[:-1] == interval).all()
    assert ((steps > 0) & (steps <= interval)).all()


def test_every_layer_is_an_exit_unless_told_otherwise():
    assert exit_layers(3) == (1, 2, 3)
    assert exit_layers(1) == (1,)
    assert exit_layers(8, min_exit_layer=8) == (8,)


# === Weights ===


@given(LADDERS, st.sampled_from(WEIGHTINGS), st.sampled_from([0, 0.2, 1, 3]))
def test_weights_equal_the_loop(layers, weighting, scale):
    weights = exit_weights(layers, weighting, scale)
    np.testing.assert_allclose(
        weights, reference(layers, weighting, scale), rtol=1e-12
    )
    assert sum(weights) == pytest.approx(1.0, rel=1e-12)
    # The last exit always counts: there is something to divide by.
    assert min(weights) >= 0.0 < weights[-1]
    if scale == 0:
        assert weights[-1] == 1.0


@given(LADDERS, st.sampled_from(WEIGHTINGS))
def test_deeper_exits_count_no_less(layers, weighting):
    weights = exit_weights(layers, weighting)
    assert (np.diff(weights) >= 0).all()


@pytest.mark.parametrize(
    ("weighting", "scale", "expected"),
    [
        # CALM: i / (1 + ... + 8).
        ("linear", 1.0, np.arange(1, 9) / 36),
        # LayerSkip: 0, 1, 3, ..., 21, and at the end 7 + 21.
        ("cumulative", 1.0, np.array([0, 1, 3, 6, 10, 15, 21, 28]) / 84),
        ("cumulative", 0.2, np.array([0, 1, 3, 6, 10, 15, 21, 56]) / 112),
        ("geometric", 1.0, 2.0 ** np.arange(8) / 255),
        ("uniform", 0.5, np.array([1, 1, 1, 1, 1, 1, 1, 2]) / 9),
    ],
)
def test_weights_of_the_papers(weighting, scale, expected):
    received = exit_weights(range(1, 9), weighting, scale)
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def test_a_lone_exit_has_all_the_weight():
    for weighting in WEIGHTINGS:
        assert exit_weights((1,), weighting) == [1.0]
        assert exit_weights((6,), weighting, 0.3) == [1.0]


# === Curricula ===


@given(LADDERS, st.integers(0, 10**6))
def test_without_a_curriculum_all_count(layers, step):
    np.testing.assert_array_equal(
        enabled_exits(None, layers, step), np.ones(len(layers))
    )


@given(LADDERS, st.integers(1, 5), st.integers(0, 10**6))
def test_rotating_visits_each_exit_equally_often(layers, interval, start):
    count = len(layers)
    enabled = np.array(
        [
            enabled_exits("rotating", layers, step, interval=interval)
            for step in range(start, start + interval)
        ]
    )
    assert set(enabled.ravel()) <= {0.0, 1.0}
    np.testing.assert_array_equal(enabled[:, -1], 1.0)
    np.testing.assert_array_equal(enabled[:, :-1].sum(0), 1.0)
    # The set moves by one exit from step to step.
    np.testing.assert_array_equal(enabled[1:, : count - 2], enabled[:-1, 1:-1])
    # And comes back.
    np.testing.assert_array_equal(
        enabled_exits("rotating", layers, start + interval, interval=interval),
        enabled[0],
    )


@given(
    LADDERS,
    st.sampled_from([Fraction(1, 4), Fraction(1, 2), Fraction(1)]),
    st.integers(1, 1000),
    st.integers(0, 1200),
)
def test_gradual_opens_from_the_top(layers, fraction, num_steps, step):
    top = layers[-1]
    received = np.asarray(
        enabled_exits(
            "gradual",
            layers,
            step,
            fraction=float(fraction),
            num_steps=num_steps,
        )
    )
    expected = [
        step >= fraction * num_steps * Fraction(top - layer, top)
        for layer in layers
    ]
    np.testing.assert_array_equal(received, expected)
    # No exit is open below one that is closed.
    assert (np.diff(received) >= 0).all()
    assert received[-1] == 1.0
    if step >= fraction * num_steps:
        assert received.all()


def test_gradual_by_hand():
    starts = []
    for layer in range(1, 5):
        for step in range(100):
            enabled = enabled_exits(
                "gradual", (1, 2, 3, 4), step, num_steps=100
            )
            if enabled[layer - 1]:
                starts.append(step)
                break
    # 0.5 * 100 * (4 - l) / 4 = 37.5, 25, 12.5, 0.
    assert starts == [38, 25, 13, 0]


@pytest.mark.parametrize("curriculum", [None, "rotating", "gradual"])
def test_the_step_may_be_an_optimizers(curriculum):
    step = tf.Variable(3, dtype="int64")

    @tf.function
    def graph():
        return enabled_exits(curriculum, (1, 2, 3, 4), step, num_steps=20)

    for value in (3, 4):
        step.assign(value)
        received = graph()
        assert received.dtype == "float32"
        np.testing.assert_array_equal(
            received,
            enabled_exits(curriculum, (1, 2, 3, 4), value, num_steps=20),
        )


# === Errors ===


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exit_layers(4, 0), "from 1 to 4.*min_exit_layer=0"),
        (lambda: exit_layers(4, 5), "from 1 to 4.*min_exit_layer=5"),
        (lambda: exit_layers(4, 1, 0), "exit_interval=0"),
        (lambda: exit_weights([1, 2], "log"), "'cumulative'.*'log'"),
        (lambda: exit_weights([1, 2], "linear", -0.1), "early_exit_scale=-0.1"),
        (
            lambda: exit_weights([1, 2], "linear", float("nan")),
            "early_exit_scale=nan",
        ),
        (lambda: exit_weights([]), r"`layers` must be ascending.*\(\)"),
        (lambda: exit_weights([2, 1]), r"\(2, 1\)"),
        (lambda: exit_weights([1, 1]), r"\(1, 1\)"),
        (lambda: exit_weights([0, 1]), r"\(0, 1\)"),
        (lambda: enabled_exits("random", [1, 2], 0), "'gradual'.*'random'"),
        (
            lambda: enabled_exits("rotating", [1, 2], 0, interval=0),
            "at least 1.*interval=0",
        ),
        (lambda: enabled_exits("gradual", [1, 2], 0), "num_steps=None"),
        (
            lambda: enabled_exits("gradual", [1, 2], 0, num_steps=0),
            "num_steps=0",
        ),
        (
            lambda: enabled_exits(
                "gradual", [1, 2], 0, fraction=0.0, num_steps=9
            ),
            "fraction=0.0",
        ),
        (
            lambda: enabled_exits(
                "gradual", [1, 2], 0, fraction=1.5, num_steps=9
            ),
            "fraction=1.5",
        ),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
