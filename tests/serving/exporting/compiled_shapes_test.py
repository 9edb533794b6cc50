"""Signatures whose programs XLA compiles for a few shapes."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe import serving
from keras_moe.generation import EarlyExitPolicy
from keras_moe.models import SwitchTransformer
from keras_moe.serving.server._servable import Servable
from keras_moe.serving.versions._warmup_requests import read_warmup_requests
from tests.generation.talkative_model import talkative_model

LENGTH, LETTERS = 5, 12
SHAPES = {"batch_sizes": (1, 3), "lengths": (4,)}
POLICY = EarlyExitPolicy("softmax", threshold=0.3)
WORDS = ["abc", "kl", "", "bbcd", "a", "hijk", "fed"]


def tokenize(words):
    """Pads all words to one length, longer than programs there are for."""
    codes = tf.strings.unicode_decode(words, "UTF-8").to_tensor(
        ord("a"), shape=(None, 6)
    )
    ids = tf.where(codes == ord("a"), 0, codes - ord("a") + 1)
    return {"encoder_token_ids": ids, "status": tf.strings.length(words)}


def detokenize(ids):
    return tf.strings.reduce_join(
        tf.strings.as_string(ids), axis=1, separator=" "
    )


def export(model, directory, **options):
    serving.export(
        model, directory, tokenize, detokenize, LENGTH, **{**SHAPES, **options}
    )
    return directory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model = talkative_model(num_decoder_layers=2, num_encoder_layers=1)
    directory = tmp_path_factory.mktemp("compiled") / "1"
    return export(model, directory, early_exit=POLICY)


@pytest.fixture(scope="module")
def servable(folder):
    servable = Servable(folder, 1)
    yield servable
    servable.close()


def ask(servable, words, signature):
    array = np.array([word.encode() for word in words], object)
    return servable.run({"inputs": array}, signature)


# No row, each program, more rows than the largest, whose rest is padded.
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 7])
def test_answers_as_the_plain_signature(servable, rows):
    expected = ask(servable, WORDS[:rows], "serving_default")
    received = ask(servable, WORDS[:rows], "compiled")
    assert set(received) == set(expected)
    for name, value in expected.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(received[name], value, atol=1e-5)
        else:
            np.testing.assert_array_equal(received[name], value)
    if rows == 7:
        depths = expected["exit_layer"]
        assert {1, 2} <= {*depths.ravel()}
        assert len({*expected["token_ids"].ravel()}) > 4


def test_longer_sources_are_answered_without_a_program(servable):
    words = ["bcdefg", "kl"]
    expected = ask(servable, words, "serving_default")
    received = ask(servable, words, "compiled")
    np.testing.assert_array_equal(received["outputs"], expected["outputs"])


def test_answers_ids(servable):
    ids = tokenize(tf.constant(WORDS))["encoder_token_ids"].numpy()
    received = servable.run({"token_ids": ids[:, :4]}, "compiled_ids")
    expected = ask(servable, WORDS, "compiled")
    assert set(expected) == {*received, "status"}
    for name, value in received.items():
        np.testing.assert_array_equal(value, expected[name])


def test_each_shape_is_compiled_while_a_version_is_loaded(folder, servable):
    shapes = [
        inputs["token_ids"].shape
        for _, inputs in read_warmup_requests(folder, 1 << 20)
    ]
    assert shapes == [(1, 4), (3, 4)]
    assert servable.warmup_requests == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": None}, "`batch_sizes` and `lengths` go together"),
        ({"lengths": ()}, "`lengths` must be positive integers that incr"),
        ({"batch_sizes": (8, 1)}, "`batch_sizes` must be positive integers"),
        ({"batch_sizes": (0, 8)}, "`batch_sizes` must be positive integers"),
        ({"batch_sizes": (1.5,)}, "`batch_sizes` must be positive integers"),
        ({"batch_sizes": 8}, "`batch_sizes` must be positive integers"),
    ],
)
def test_refuses_other_sizes(tmp_path, options, message):
    model = talkative_model(num_decoder_layers=1, num_encoder_layers=1)
    with pytest.raises(ValueError, match=message):
        export(model, tmp_path / "1", **options)


def test_refuses_models_that_count_padding(tmp_path):
    model = SwitchTransformer.from_preset(
        "switch_tiny", encoder_router="expert_choice"
    )
    with pytest.raises(ValueError, match="Received: a ExpertChoiceRouter"):
        export(model, tmp_path / "1")
