"""A small model of tables, for searches."""

import types
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_moe.generation import BeamSearch
from keras_moe.generation import decode


class Block(NamedTuple):
    positions: Any
    memory: Any


class State(NamedTuple):
    blocks: Any
    count: Any


class Markov:
    """What it says depends on the last two tokens and on the source's first.

    The token before last is known from the state alone: a search that mixes
    up its beams says something else.
    """

    def __init__(self, tables, **ids):
        # [source, before last, last, next]
        self.tables = np.float32(tables)
        ids = {"pad_id": 0, "end_id": 1, "start_id": 0, **ids}
        self.config = types.SimpleNamespace(**ids)
        self.steps = 0

    def encode(self, token_ids, training=None):
        source = tf.reduce_max(token_ids, axis=1) - 10
        return source, token_ids != self.config.pad_id

    def start_from(self, source, memory_mask, max_length, cache=None):
        table = tf.gather(self.tables, tf.maximum(source, 0))
        before = tf.zeros_like(source) + self.config.start_id
        block = Block((tf.zeros((), tf.int32), before), table)
        return State((block,), tf.range(3))

    def step(self, token_ids, position, state):
        self.steps += 1
        ((count, before), table) = state.blocks[0]
        tf.debugging.assert_equal(count, position)
        logits = tf.gather(table, before, batch_dims=1)
        logits = tf.gather(logits, token_ids, batch_dims=1)
        block = Block((count + 1, token_ids), table)
        return logits, state._replace(blocks=(block,))

    def next_log_p(self, source):
        """Returns what the references ask for."""

        def log_p(said):
            history = (self.config.start_id,) * 2 + said
            logits = np.float64(self.tables[source][history[-2:]])
            logits[self.config.pad_id] = -np.inf
            logits[logits < -1e8] = -np.inf
            logits -= logits.max()
            with np.errstate(divide="ignore"):
                return logits - np.log(np.exp(logits).sum())

        return log_p


def beam_search(model, token_ids, max_length, *settings, **more_settings):
    strategy = BeamSearch(*settings, **more_settings)
    return decode(model, token_ids, max_length, strategy)


def markov(count, vocabulary, seed=0, end=0.0, **ids):
    """Some ends are impossible, some words are: those sources differ."""
    rng = np.random.default_rng(seed)
    tables = 2 * rng.normal(size=(count, *(vocabulary,) * 3))
    model = Markov(tables, **ids)
    model.tables[..., model.config.end_id] += end
    model.tables[1::4, ..., model.config.end_id] = -1e9
    model.tables[2::4, ..., -1] = -1e9
    return model


def sources(model):
    return 10 + tf.range(len(model.tables), dtype=tf.int32)[:, None]


def assert_answers(received, expected, pad_id=0):
    max_length = received["token_ids"].shape[1]
    for row, (said, log_p, value) in enumerate(expected):
        padded = [*said, *[pad_id] * (max_length - len(said))]
        assert received["token_ids"][row].numpy().tolist() == padded
        np.testing.assert_allclose(
            received["log_probability"][row], log_p, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            received["score"][row], value, rtol=1e-4, atol=1e-5
        )
