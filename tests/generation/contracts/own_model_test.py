"""A transformer of a user's own, written from the contracts, decodes."""

import types
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import pytest
from keras import ops

from keras_moe import generation
from keras_moe.layers import DecoderBlock
from keras_moe.layers import FeedForward
from keras_moe.layers import KeyValueCache
from keras_moe.layers import T5Attention
from tests.covering import covering

IDS = np.array([[5, 6, 7, 1], [8, 1, 0, 0], [0, 0, 0, 0]], "int32")
VOCABULARY, DIM, LAYERS, LENGTH = 12, 8, 3, 5


class State(NamedTuple):
    blocks: tuple
    positions: Any


class Stack:
    compute_dtype = "float32"

    def __init__(self):
        self.blocks = [
            DecoderBlock(T5Attention(2, 4), T5Attention(2, 4), FeedForward(16))
            for _ in range(LAYERS)
        ]
        self.norm = keras.layers.LayerNormalization()
        for layer in (*self.blocks, self.norm):
            layer.build((None, None, DIM))

    def bias(self, query_positions, key_positions):
        return None

    def finish(self, x, training=None):
        return self.norm(x, training=training)


class Own:
    """Its source are embeddings; it needs no encoder."""

    def __init__(self):
        self.config = types.SimpleNamespace(
            pad_id=0,
            end_id=1,
            start_id=0,
            num_decoder_layers=LAYERS,
            model_dim=DIM,
            output_size=VOCABULARY,
            exit_classifier=False,
        )
        self.decoder = Stack()
        self.embed = keras.layers.Embedding(VOCABULARY, DIM)
        self.logits = keras.layers.Dense(VOCABULARY)
        self.embed.build()
        self.logits.build((None, DIM))

    def encode(self, token_ids, training=None):
        return self.embed(token_ids), token_ids != 0

    def start_from(self, memory, memory_mask, max_length, cache=KeyValueCache):
        blocks = (
            block.init_state(memory, memory_mask, max_length, cache)
            for block in self.decoder.blocks
        )
        return State(tuple(blocks), ops.arange(max_length, dtype="int32"))

    def step(self, token_ids, position, state):
        x, after = self.embed(token_ids[:, None]), []
        for block, before in zip(
            self.decoder.blocks, state.blocks, strict=True
        ):
            x, its_state = block.step(x, before)
            after.append(its_state)
        logits = self.logits(self.decoder.finish(x))[:, 0]
        return logits, state._replace(blocks=tuple(after))

    def head_kernel(self, size):
        return self.logits.kernel[:, :size]

    def exit_confidence(self, hidden):
        raise AssertionError("Without a classifier, nobody asks for it.")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    model = Own()
    for layer in (model.embed, model.logits):
        for weight in layer.weights:
            weight.assign(np.random.normal(size=weight.shape))
    return model


@pytest.fixture(scope="module")
def whole(model):
    """Greedy answers by all positions at once, each step from the start."""
    memory, mask = model.encode(IDS)
    ids = np.zeros((len(IDS), LENGTH), "int32")
    ended = ~mask.any(axis=1)
    for length in range(LENGTH):
        x = model.embed(np.pad(ids, ((0, 0), (1, 0)))[:, : length + 1])
        for block in model.decoder.blocks:
            x = block(x, memory, memory_mask=mask)
        logits = np.array(model.logits(model.decoder.finish(x)))[:, -1]
        logits[:, 0] = -np.inf
        ids[:, length] = np.where(ended, 0, logits.argmax(axis=1))
        ended |= ids[:, length] == 1
    return ids


STRATEGIES = [
    generation.Greedy(),
    generation.Sampling(top_k=1),
    generation.BeamSearch(1, length_penalty=0.0),
    generation.SelfSpeculative(1, 2),
]
# Each without a graph; and in a graph and by XLA, which take long to make, by
# default by XLA the one that is most of a program (in a graph it is compiled in
# self_speculative_test.py).
WAYS = [
    pytest.param(
        strategy,
        jit_compile,
        id=f"{type(strategy).__name__}-{jit_compile}",
        marks=[]
        if jit_compile is None or (place == 3 and jit_compile)
        else [pytest.mark.large],
    )
    for place, strategy in enumerate(STRATEGIES)
    for jit_compile in (None, False, True)
]


def test_fulfils_its_contracts(model):
    assert isinstance(model, generation.ExitingDecodable)
    assert isinstance(model.decoder, generation.DecoderStack)


@pytest.mark.parametrize("strategy, jit_compile", WAYS)
def test_every_strategy_decodes_it(model, whole, strategy, jit_compile):
    if jit_compile is None:
        answer = generation.decode(model, IDS, LENGTH, strategy)
    else:
        answer = generation.compile_decoder(
            model, LENGTH, strategy, jit_compile=jit_compile
        )(IDS)
    np.testing.assert_array_equal(answer["token_ids"], whole)


@pytest.mark.parametrize(
    ("confidence", "propagation"),
    covering(
        ["softmax", "state", "entropy"], ["deferred", "eager"], strength=1
    ),
)
def test_exits_early(model, whole, confidence, propagation):
    never, at_once = (
        generation.decode(
            model,
            IDS,
            LENGTH,
            early_exit=generation.EarlyExitPolicy(
                confidence, threshold, propagation=propagation
            ),
        )
        for threshold in (1.0, 0.0)
    )
    np.testing.assert_array_equal(never["token_ids"], whole)
    emitted = at_once["token_ids"].numpy() != 0
    layers = at_once["exit_layer"].numpy()
    assert emitted.any() and (layers[emitted] < LAYERS).all()
