"""What early exits are made of: states, head, classifier, layer dropout."""

import gc
import json

import keras
import numpy as np
import pytest

from keras_moe.models import SwitchTransformer
from keras_moe.models.switch_transformer._head_kernel import head_kernel
from tests.models.switch_transformer.switch_transformer_case import EACH_KIND
from tests.models.switch_transformer.switch_transformer_case import data
from tests.models.switch_transformer.switch_transformer_case import make
from tests.training.exits.early_exit_case import STILL

HEADS = ["sparse", "untied", "two vocabularies, untied"]


# === States ===


@pytest.mark.parametrize("kind", EACH_KIND)
def test_the_last_exit_is_the_model(kind):
    model, inputs = make(kind), data()
    (last,) = model.exit_states(inputs, (2,))
    assert last.shape == (3, 5, 8)
    np.testing.assert_array_equal(model.logits(last), model(inputs))


@pytest.mark.parametrize(
    "kind", ["sparse", pytest.param("dense, gated", marks=pytest.mark.large)]
)
def test_a_lower_exit_is_a_shorter_model(kind):
    model, inputs = make(kind, num_decoder_layers=3), data()
    exits = model.exit_states(inputs, (1, 2, 3))
    weights = {weight.path: weight for weight in model.weights}
    for layers in (1, 2):
        short = make(kind, num_decoder_layers=layers)
        for weight in short.weights:
            weight.assign(weights[weight.path])
        np.testing.assert_allclose(
            model.logits(exits[layers - 1]), short(inputs), atol=1e-5
        )


def test_exits_are_given_in_the_order_asked_for():
    model, inputs = make(num_experts=0), data()
    first, last = model.exit_states(inputs, (1, 2))
    again = model.exit_states(inputs, [2, 1, 2])
    for received, expected in zip(again, (last, first, last), strict=True):
        np.testing.assert_array_equal(received, expected)
    assert np.abs(np.asarray(first) - np.asarray(last)).max() > 0.1


# === The head's kernel ===


@pytest.mark.parametrize("kind", HEADS)
def test_head_kernel_makes_the_first_logits(kind):
    model = make(kind, num_experts=0)
    hidden = np.random.normal(size=(4, 3, 8)).astype("float32")
    for size in (2, 5, 9):
        kernel = np.asarray(model.head_kernel(size))
        assert kernel.shape == (8, size)
        np.testing.assert_allclose(
            hidden @ kernel, model.logits(hidden)[..., :size], atol=1e-5
        )


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize("kind", HEADS)
def test_head_kernel_of_int8(kind):
    model = make(
        kind, num_experts=0, num_encoder_layers=1, num_decoder_layers=1
    )
    exact = np.asarray(model.head_kernel(9))
    # Keras collects all garbage after each kernel that it replaces.
    gc.collect()
    gc.freeze()
    model.quantize("int8")
    kernel = np.asarray(model.head_kernel(5))
    assert kernel.shape == (8, 5)
    # Half of a step to either side; 127 steps are the greatest weight of an
    # id.
    step = np.abs(exact).max(0)[:5] / 127
    assert (np.abs(kernel - exact[:, :5]) < 0.51 * step).all()

    hidden = np.random.normal(size=(40, 8)).astype("float32")
    received = np.asarray(model.logits(hidden))[:, :5]
    # The layer rounds what it is given to int8, too, by at most half a step.
    error = np.abs(hidden).max(-1, keepdims=True) / 127 / 2
    bound = error * np.abs(kernel).sum(0) * 1.01 + 1e-5
    assert (np.abs(hidden @ kernel - received) <= bound).all()


def test_other_quantisation_is_refused():
    dense = keras.layers.Dense(8)
    dense.build((None, 8))
    dense.quantize("int4")
    with pytest.raises(ValueError, match="floats or int8.*'int4'"):
        head_kernel(dense, 4)


# === The classifier ===


def test_the_classifier_is_kept_in_files(tmp_path):
    model, inputs = make(num_experts=0, exit_classifier=True), data()
    for weight in model.exit_classifier.weights:
        weight.assign(np.random.normal(size=weight.shape))
    (state,) = model.exit_states(inputs, (1,))
    expected = np.asarray(model.exit_confidence(state))
    kernel, bias = (w.numpy() for w in model.exit_classifier.weights)
    np.testing.assert_allclose(
        expected,
        1 / (1 + np.exp(-(np.asarray(state) @ kernel + bias)[..., 0])),
        atol=1e-6,
    )
    model.save(tmp_path / "model.keras")
    model.save_to_preset(str(tmp_path / "preset"))
    for loaded in (
        keras.models.load_model(tmp_path / "model.keras"),
        SwitchTransformer.from_preset(str(tmp_path / "preset")),
    ):
        assert loaded.config.exit_classifier
        np.testing.assert_array_equal(loaded.exit_confidence(state), expected)


def test_the_classifier_is_not_trained_along():
    plain = make(num_experts=0)
    model = make(num_experts=0, exit_classifier=True)
    assert len(model.weights) == len(plain.weights) + 2
    assert [w.path for w in model.trainable_weights] == [
        w.path for w in plain.trainable_weights
    ]


def test_the_confidence_is_float32_under_every_policy():
    model = make(num_experts=0, exit_classifier=True, dtype="mixed_bfloat16")
    (state,) = model.exit_states(data(), (1,))
    assert state.dtype == "bfloat16"
    assert model.exit_logits(state).dtype == "float32"
    assert model.exit_confidence(state).dtype == "float32"


# === Layer dropout ===


def test_layer_dropout_passes_upper_decoder_blocks_by():
    rate, rows = 0.6, 600
    model = make(
        num_experts=0,
        num_encoder_layers=1,
        num_decoder_layers=3,
        layer_dropout_rate=rate,
        **STILL,
    )
    inputs = data(batch=rows, source=3, target=2)
    states = [
        np.asarray(state)
        for state in model.exit_states(inputs, (1, 2, 3), training=True)
    ]
    # Nothing at all happens to the lowest block.
    (first,) = model.exit_states(inputs, (1,), training=False)
    np.testing.assert_allclose(states[0], first, atol=1e-6)
    expected = (rate * (2**0.5 - 1), rate)
    for lower, upper, share in zip(states, states[1:], expected, strict=False):
        same = (lower == upper).reshape(rows, -1)
        np.testing.assert_array_equal(same.all(1), same.any(1))
        # Five standard deviations of a binomial share.
        margin = 5 * np.sqrt(share * (1 - share) / rows)
        assert abs(same.all(1).mean() - share) < margin
    # Outside training it is not there.
    plain = make(
        num_experts=0, num_encoder_layers=1, num_decoder_layers=3, **STILL
    )
    for ours, theirs in zip(plain.weights, model.weights, strict=True):
        ours.assign(theirs)
    np.testing.assert_array_equal(model(inputs), plain(inputs))


def test_layer_dropout_is_kept_in_files(tmp_path):
    model, inputs = make(num_experts=0, layer_dropout_rate=0.25), data()
    clone = SwitchTransformer.from_config(model.get_config())
    assert clone.config == model.config
    assert clone.decoder.layer_dropouts[-1].rate == 0.25
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.config.layer_dropout_rate == 0.25
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


@pytest.mark.parametrize("rate", [-0.5, 1.0])
def test_layer_dropout_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match=f"layer_dropout_rate={rate}"):
        make(layer_dropout_rate=rate)


# === What was there before ===


def test_presets_from_before_exits_load(tmp_path):
    model, inputs = make(), data()
    assert not any(
        word in weight.path
        for weight in model.variables
        for word in ("exit_classifier", "layer_dropout")
    )
    model.save_to_preset(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    for field in ("exit_classifier", "layer_dropout_rate"):
        del config[field]
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = SwitchTransformer.from_preset(str(tmp_path))
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    # It may be trained on with layer dropout.
    again = SwitchTransformer.from_preset(str(tmp_path), layer_dropout_rate=0.3)
    np.testing.assert_array_equal(again(inputs), model(inputs))
