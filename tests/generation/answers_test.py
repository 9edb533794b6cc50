"""Lengths that are no Python integers, and logits that are no numbers."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe import generation
from keras_moe.models import SwitchTransformer

STRATEGIES = {
    "greedy": generation.Greedy(),
    "sampling": generation.Sampling(),
    "beams": generation.BeamSearch(2),
    "speculative": generation.SelfSpeculative(1),
}
IDS = np.array([[5, 6, 7, 1], [5, 9, 8, 1], [0, 0, 0, 0]])


@pytest.fixture(scope="module")
def model():
    made = SwitchTransformer.from_preset(
        "switch_tiny", num_experts=0, target_vocabulary_size=32
    )
    table = np.array(made.source_embedding.embeddings)
    table[9] = np.nan  # of the second row alone
    made.source_embedding.embeddings.assign(table)
    return made


@pytest.mark.parametrize("name", STRATEGIES)
def test_rows_without_logits_are_told_from_empty_answers(model, name):
    memory, mask = model.encode(tf.constant(IDS, tf.int32))
    with pytest.warns(UserWarning, match="1 of 3 rows, the first .* row 1"):
        answer = generation.decode_from(
            model, memory, mask, 3, STRATEGIES[name]
        )
    scores = np.asarray(answer["log_probability"])
    assert np.isnan(scores).tolist() == [False, True, False]
    assert scores[2] == 0.0
    if name != "sampling":  # whose noise depends on the place in the batch
        alone = generation.decode_from(
            model, memory[:1], mask[:1], 3, STRATEGIES[name]
        )
        np.testing.assert_array_equal(
            alone["token_ids"][0], answer["token_ids"][0]
        )


def test_compiled_programs_say_so_too(model):
    with pytest.warns(UserWarning, match="1 of 3 rows"):
        answer = model.generate(IDS, 3)
    assert np.isnan(answer["log_probability"][1])


def test_decoding_with_exits_says_so_too(model):
    memory, mask = model.encode(tf.constant(IDS, tf.int32))
    with pytest.warns(UserWarning, match="1 of 3 rows, the first .* row 1"):
        generation.decode_from(
            model, memory, mask, 3, early_exit=generation.EarlyExitPolicy()
        )


@pytest.mark.parametrize("length", [np.int64(2), tf.constant(2)])
def test_a_length_may_be_a_tensor(model, length):
    assert model.generate(IDS[:1], length)["token_ids"].shape == (1, 2)
    answer = generation.decode(model, IDS[:1], length)
    assert answer["token_ids"].shape == (1, 2)


@pytest.mark.parametrize(
    "length", [tf.constant(2.0), tf.constant([1, 2]), True]
)
def test_a_length_is_one_integer(model, length):
    with pytest.raises(ValueError, match="`max_length` must be a positive"):
        generation.decode(model, IDS[:1], length)
