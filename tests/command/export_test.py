import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import calibration
from keras_moe.command._texts import texts_of
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
