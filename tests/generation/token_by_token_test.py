import types

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.generation import compile_decoder
from keras_moe.generation import decode


class Scripted:
    """Says what its table holds: `[row, position, id]` logits."""

    def __init__(self, table, **ids):
        self.table = tf.constant(table, tf.float32)
        ids = {"pad_id": 0, "end_id": 1, "start_id": 0, **ids}
        self.config = types.SimpleNamespace(**ids)
        self.heard = []

    def encode(self, token_ids, training=None):
        return token_ids, token_ids != self.config.pad_id

    def start_from(self, memory, memory_mask, max_length, cache=None):
        return tf.zeros(tf.shape(memory)[:1], tf.int32)

    def step(self, token_ids, position, state):
        if tf.executing_eagerly():
            self.heard.append(token_ids.numpy().tolist())
        return tf.gather(self.table, position, axis=1), state + 1


def expected(table, source, max_length, pad_id=0, end_id=1):
    answers, scores = [], []
    for row, words in zip(table, source, strict=True):
        said, score = [], 0.0
        if any(word != pad_id for word in words):
            for logits in np.asarray(row, "float64")[:max_length]:
                logits = logits.copy()
                logits[pad_id] = -1e9
                log_p = logits - np.log(np.exp(logits).sum())
                said.append(int(np.argmax(log_p)))
                score += log_p[said[-1]]
                if said[-1] == end_id:
                    break
        answers.append(said + [pad_id] * (max_length - len(said)))
        scores.append(score)
    return answers, scores


def decode_six(model):
    return lambda source: decode(model, source, 6)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("ids", [{}, {"pad_id": 3, "end_id": 2, "start_id": 1}])
def test_follows_the_table(compiled, ids):
    # Three ids and the pad: about one step in three ends its row.
    table = np.random.normal(size=(16, 6, 4))
    model = Scripted(table, **ids)
    source = np.full((16, 3), 2 if not ids else 1, "int32")
    source[5] = model.config.pad_id
    run = compile_decoder(model, 6) if compiled else decode_six(model)
    received = run(tf.constant(source))
    answers, scores = expected(
        table, source, 6, model.config.pad_id, model.config.end_id
    )
    np.testing.assert_array_equal(received["token_ids"], answers)
    np.testing.assert_allclose(
        received["log_probability"], scores, rtol=1e-4, atol=1e-5
    )
    assert received["token_ids"].dtype == tf.int32
    assert received["log_probability"].dtype == tf.float32


def test_hears_what_it_said_and_stops_when_all_have_ended():
    table = np.full((2, 9, 5), -9.0)
    for row, script in enumerate(([4, 1], [2, 3, 1])):
        for position, token in enumerate(script):
            table[row, position, token] = 9.0
    model = Scripted(table, start_id=3)
    source = tf.constant([[2], [2]])
    received = decode(model, source, max_length=9)
    # The start, then each step's words; ended rows hear padding.
    assert model.heard == [[3, 3], [4, 2], [1, 3]]
    np.testing.assert_array_equal(
        received["token_ids"][:, :4], [[4, 1, 0, 0], [2, 3, 1, 0]]
    )
    assert not np.any(received["token_ids"][:, 4:])


def test_never_says_padding():
    table = np.zeros((1, 4, 3))
    table[..., 0] = 50.0  # wants nothing but padding
    table[..., 2] = 1.0
    received = decode(Scripted(table), tf.constant([[2]]), 4)
    np.testing.assert_array_equal(received["token_ids"], [[2, 2, 2, 2]])


def test_does_not_step_where_there_is_nothing_to_say():
    model = Scripted(np.zeros((2, 4, 3)))
    received = decode(model, tf.constant([[0, 0], [0, 0]]), 4)
    assert not model.heard
    assert not np.any(received["token_ids"])
    assert not np.any(received["log_probability"])
