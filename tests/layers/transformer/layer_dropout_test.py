import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.layers import LayerDropout
from keras_moe.layers.transformer._layer_dropout import layer_dropout_rates
from tests.layers.layer_test_case import run_layer_test


def pair(*shape):
    x = np.random.normal(size=shape).astype("float32")
    return x, x + 1.0


def passed_by(layer, rows, *rest):
    """Which rows were passed by; whether it is all or nothing of a row."""
    before, after = pair(rows, *(rest or (3,)))
    received = np.asarray(layer(before, after, training=True))
    axes = tuple(range(1, before.ndim))
    passed = (received == before).all(axes)
    assert ((received == after).all(axes) == ~passed).all()
    return passed


@pytest.mark.parametrize(
    "rate", [pytest.param(0.0, marks=pytest.mark.large), 0.4]
)
def test_contract(rate):
    run_layer_test(
        LayerDropout,
        {"rate": rate, "seed": 3},
        input_shape={"before_shape": (4, 3, 8), "after_shape": (4, 3, 8)},
        expected_output_shape=(4, 3, 8),
        expected_num_trainable_weights=0,
        expected_num_non_trainable_weights=0,
        expected_num_seed_generators=int(rate > 0),
        expected_num_losses=0,
        supports_masking=True,
        run_training_check=False,
    )


@pytest.mark.parametrize("rest", [(), (4,), (3, 5, 2)])
def test_a_row_is_kept_whole_or_passed_by_whole(rest):
    before, after = pair(64, *rest)
    received = np.asarray(LayerDropout(0.5)(before, after, training=True))
    choices = received == before
    assert ((received == after) == ~choices).all()
    by_row = choices.reshape(64, -1)
    assert (by_row == by_row[:, :1]).all()
    assert 0 < by_row[:, 0].sum() < 64


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.95])
def test_the_rate_is_how_often_a_row_is_passed_by(rate):
    rows = 20_000
    share = passed_by(LayerDropout(rate, seed=1), rows).mean()
    # Five standard deviations of a binomial share.
    assert abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / rows)


def test_rows_and_calls_are_independent():
    layer = LayerDropout(0.5, seed=2)
    first, second = passed_by(layer, 10_000), passed_by(layer, 10_000)
    # Shares of agreement, within five standard deviations of a half.
    assert abs((first == second).mean() - 0.5) < 5 * 0.5 / 100
    assert abs((first[1:] == first[:-1]).mean() - 0.5) < 5 * 0.5 / 100


def test_nothing_is_scaled():
    ones = np.ones((500, 2), "float32")
    received = LayerDropout(0.9)(0 * ones, ones, training=True)
    assert set(np.unique(received)) == {0.0, 1.0}


@pytest.mark.parametrize("training", [None, False])
def test_outside_training_the_block_is_kept(training):
    before, after = pair(50, 3)
    received = LayerDropout(0.99)(before, after, training=training)
    np.testing.assert_array_equal(received, after)


def test_rate_0_keeps_the_block_and_nothing_in_files():
    layer = LayerDropout(0.0)
    before, after = pair(50, 3)
    np.testing.assert_array_equal(layer(before, after, training=True), after)
    assert layer.variables == []


def test_the_same_seed_makes_the_same_choice():
    first, second, other = (
        passed_by(LayerDropout(0.5, seed=seed), 100) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_config_round_trip():
    layer = LayerDropout(0.25, seed=5, name="drop", dtype="float32")
    clone = LayerDropout.from_config(layer.get_config())
    assert clone.get_config() == layer.get_config()
    assert (clone.rate, clone.seed, clone.name) == (0.25, 5, "drop")
    np.testing.assert_array_equal(passed_by(clone, 99), passed_by(layer, 99))


def test_gradients_flow_by_the_way_taken():
    before, after = map(tf.Variable, pair(40, 3))
    with tf.GradientTape() as tape:
        y = LayerDropout(0.5, seed=1)(before, after, training=True)
    to_before, to_after = tape.gradient(y, [before, after])
    passed = (np.asarray(y) == before.numpy()).astype("float32")
    np.testing.assert_array_equal(to_before, passed)
    np.testing.assert_array_equal(to_after, 1 - passed)


def test_in_a_graph_each_call_chooses_anew():
    layer = LayerDropout(0.5, seed=4)
    before, after = pair(64, 2)

    @tf.function(autograph=False)
    def graph(training):
        return layer(before, after, training=training)

    first, second = np.asarray(graph(True)), np.asarray(graph(True))
    assert (first != second).any()
    np.testing.assert_array_equal(graph(False), after)


def test_the_computation_is_of_the_policy():
    layer = LayerDropout(0.5, dtype="mixed_float16")
    assert layer(*pair(2, 3), training=True).dtype == "float16"


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_rates_out_of_range_are_refused(rate):
    with pytest.raises(ValueError, match=rf"`rate` .*\[0, 1\).*rate={rate}"):
        LayerDropout(rate)


@given(st.floats(0.0, 0.99), st.integers(1, 40))
def test_rates_grow_from_0_to_the_last(rate, layers):
    rates = layer_dropout_rates(rate, layers)
    assert len(rates) == layers
    assert rates[-1] == pytest.approx(rate, rel=1e-12)
    if layers > 1:
        assert rates[0] == 0.0
    for layer, received in enumerate(rates[:-1]):
        share = np.exp(layer * np.log(2.0) / (layers - 1)) - 1.0
        assert received == pytest.approx(rate * share, rel=1e-9, abs=1e-15)
    assert (np.diff(rates) >= 0).all()


def test_rates_by_hand():
    # 2 ** (l / 2) - 1 of three blocks.
    np.testing.assert_allclose(
        layer_dropout_rates(0.2, 3), [0, 0.2 * (2**0.5 - 1), 0.2], rtol=1e-12
    )


def test_a_functional_model_survives_a_file(tmp_path):
    before = keras.Input((3,))
    after = LayerDropout(0.5, seed=1)(before, keras.layers.Dense(3)(before))
    model = keras.Model(before, after)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.normal(size=(20, 3)).astype("float32")
    for training in (False, True):
        np.testing.assert_array_equal(
            loaded(x, training=training), model(x, training=training)
        )
