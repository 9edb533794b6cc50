import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import calibration
from keras_moe.command._export import _call_endpoint
from keras_moe.command._export import _decoding_of
from keras_moe.command._texts import texts_of
from keras_moe.generation import EarlyExitPolicy
from keras_moe.models import SwitchTransformerConfig
from tests.command.command_line import facts
from tests.command.command_line import refusal


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A model with two inputs and two outputs."""
    left, right = keras.Input([2], name="left"), keras.Input([3], name="right")
    both = keras.layers.Concatenate()([left, right])
    model = keras.Model(
        {"left": left, "right": right},
        {"score": keras.layers.Dense(1)(both), "both": both},
    )
    path = tmp_path_factory.mktemp("exported") / "model.keras"
    model.save(path)
    return path


def test_any_functional_model(file, tmp_path):
    found = facts("export", file, tmp_path / "mine", "--version", 3)
    assert found["version"] == str(tmp_path / "mine/3")
    assert found["signatures"]["serving_default"] == {
        "inputs": {
            "left": "float32 [None, 2]",
            "right": "float32 [None, 3]",
        },
        "outputs": {
            "both": "float32 [None, 5]",
            "score": "float32 [None, 1]",
        },
    }
    inputs = {"left": np.ones([2, 2], "f"), "right": np.ones([2, 3], "f")}
    served = tf.saved_model.load(found["version"])
    np.testing.assert_allclose(
        served.signatures["serving_default"](**inputs)["score"],
        keras.saving.load_model(file)(inputs)["score"],
        rtol=1e-6,
    )
    said = refusal("export", file, tmp_path / "mine", "--version", 3)
    assert "`--version` must be new" in said


def test_what_is_refused(file, tmp_path):
    base = tmp_path / "mine"
    granted = calibration.calibrate(np.zeros([200, 1]), [0.9], 0.05)
    granted.save(tmp_path / "c.json")
    for options, words in (
        (["--batch_sizes", "1,8"], "`--batch_sizes` is for models that decode"),
        (["--batch_sizes", "1;8"], "must be integers with commas"),
        (["--tokenizer", "x"], "`--tokenizer` is for models that decode"),
        (["--certificate", tmp_path / "c.json"], "`--certificate` is for"),
        (["--certificate", file], "is not a certificate"),
    ):
        assert words in refusal("export", file, base, *options), options
    assert "must be a directory" in refusal("export", file, file)
    assert "none.keras" in refusal("export", tmp_path / "none.keras", base)
    assert not base.exists()


def test_a_model_that_does_not_say_what_it_takes(tmp_path):
    keras.Sequential([keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    said = refusal("export", tmp_path / "m.keras", tmp_path / "mine")
    assert "must say what it takes" in said


def test_inputs_and_outputs_in_lists():
    inputs = [keras.Input([2], name="a"), keras.Input([2], name="b")]
    added = keras.layers.Add(name="added")(inputs)
    doubled = keras.layers.Rescaling(2.0, name="doubled")(added)
    answer = _call_endpoint(keras.Model(inputs, [added, doubled]))
    found = answer(tf.ones([1, 2]), tf.ones([1, 2]))
    assert set(found) == {"added", "doubled"}
    np.testing.assert_array_equal(found["doubled"], [[4.0, 4.0]])
    model = keras.Sequential([keras.Input([2]), keras.layers.Rescaling(3.0)])
    found = _call_endpoint(model)(tf.ones([1, 2]))
    np.testing.assert_array_equal(found["outputs"], [[3.0, 3.0]])


def test_how_a_certificate_has_a_model_decode():
    def granted(policy):
        losses = np.zeros([200, 1])
        return calibration.calibrate(losses, [0.75], 0.05, policy=policy)

    policy = EarlyExitPolicy("state", threshold=0.75, min_exit_layer=2)
    exits = granted(calibration.exit_policy(policy, max_length=7))
    assert _decoding_of(exits, None) == (policy, 7)
    assert _decoding_of(exits, 9) == (policy, 9)  # `export` refuses it
    assert _decoding_of(granted({"kind": "cascade"}), None) == (None, 64)
    assert _decoding_of(None, 5) == (None, 5)
    with pytest.raises(ValueError, match="must be one of early exits or of"):
        _decoding_of(granted({"k": 10}), None)


class Model:
    config = SwitchTransformerConfig(10)


def test_ids_as_texts():
    texts = texts_of(Model(), None)
    ids = texts.tokenize(tf.constant(["5 6 1", " 7  1 ", ""]))
    np.testing.assert_array_equal(
        ids["encoder_token_ids"], [[5, 6, 1], [7, 1, 0], [0, 0, 0]]
    )
    words = texts.detokenize(ids["encoder_token_ids"]).numpy().tolist()
    assert words == [b"5 6 1", b"7 1", b""]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5 10", r"must be in \[0, 10\)"),
        ("-1", r"must be in \[0, 10\)"),
        ("5 x", "could not correctly convert string"),
    ],
)
def test_texts_that_are_no_ids(text, words):
    tokenize = tf.function(texts_of(Model(), None).tokenize)
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        tokenize(tf.constant([text]))
