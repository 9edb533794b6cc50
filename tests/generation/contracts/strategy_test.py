"""Strategies of a user's own."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.generation import BeamSearch
from keras_moe.generation import Greedy
from keras_moe.generation import Sampling
from keras_moe.generation import SelfSpeculative
from keras_moe.generation import Strategy
from keras_moe.generation import TokenByToken
from keras_moe.generation import compile_decoder
from keras_moe.generation import decode
from tests.generation.early_exit_case import make_model
from tests.generation.early_exit_case import make_source
from tests.generation.early_exit_case import policy

IDS = make_source()
LENGTH = 5


@dataclasses.dataclass(frozen=True)
class EchoCount:
    """Says how long the source is, `number` times."""

    number: int

    def decode(self, model, memory, memory_mask, max_length, static_shapes):
        count = tf.reduce_sum(tf.cast(memory_mask, tf.int32), axis=1)
        said = tf.range(max_length) < self.number
        ids = tf.where(said, count[:, None], model.config.pad_id)
        return {"token_ids": ids, "width": tf.shape(memory)[2] + 0 * count}


@dataclasses.dataclass(frozen=True)
class SecondBest(TokenByToken):
    """Never says what is most probable."""

    def choose(self, logits, position):
        log_p, ids = tf.math.top_k(tf.nn.log_softmax(logits), 2)
        return ids[:, 1], log_p[:, 1]


@pytest.fixture(scope="module")
def model():
    return make_model(num_decoder_layers=2)


@pytest.mark.parametrize(
    "strategy",
    [
        Greedy(),
        Sampling(),
        BeamSearch(),
        SelfSpeculative(1),
        EchoCount(1),
        SecondBest(),
    ],
)
def test_fulfils_the_contract(strategy):
    assert isinstance(strategy, Strategy)
    assert hash(strategy) == hash(dataclasses.replace(strategy))


def test_decodes_by_its_own_method(model):
    expected = np.zeros((len(IDS), LENGTH), "int32")
    expected[:, :2] = np.count_nonzero(IDS, axis=1)[:, None]
    strategy = EchoCount(2)
    for answer in (
        decode(model, IDS, LENGTH, strategy),
        compile_decoder(model, LENGTH, strategy)(tf.constant(IDS)),
        model.generate(IDS, LENGTH, strategy=strategy),
        model.generate(IDS, LENGTH, strategy=strategy, jit_compile=True),
    ):
        np.testing.assert_array_equal(answer["token_ids"], expected)
        assert set(answer["width"].numpy()) == {model.config.model_dim}


def test_equal_strategies_share_a_program(model, monkeypatch):
    traces = []
    run = EchoCount.decode

    def traced(*args):
        traces.append(1)
        return run(*args)

    monkeypatch.setattr(EchoCount, "decode", traced)
    for number in (3, 3, 4, 3):
        model.generate(IDS, 6, strategy=EchoCount(number))
    assert len(traces) == 2


def test_a_token_is_chosen_as_the_subclass_says(model):
    answer = model.generate(IDS, LENGTH, strategy=SecondBest())
    ids = answer["token_ids"].numpy()
    inputs = {
        "encoder_token_ids": IDS,
        "decoder_token_ids": np.pad(ids, ((0, 0), (1, 0)))[:, :-1],
    }
    logits = np.array(model(inputs))
    logits[..., 0] = -1e9
    second = np.argsort(logits, axis=-1)[..., -2]
    assert np.count_nonzero(ids) > len(IDS)
    np.testing.assert_array_equal(ids[ids > 0], second[ids > 0])


def test_what_chooses_tokens_may_exit_early(model):
    never = decode(model, IDS, LENGTH, SecondBest(), policy(threshold=2.0))
    full = decode(model, IDS, LENGTH, SecondBest())
    np.testing.assert_array_equal(never["token_ids"], full["token_ids"])
    early = decode(model, IDS, LENGTH, SecondBest(), policy(threshold=-1.0))
    assert set(np.unique(early["exit_layer"])) == {0, 1}


def test_others_may_not_exit_early(model):
    message = "EchoCount runs all layers: `early_exit` must be None. Received"
    with pytest.raises(ValueError, match=message):
        model.generate(IDS, LENGTH, policy(), EchoCount(1))
    with pytest.raises(ValueError, match=message):
        compile_decoder(model, LENGTH, EchoCount(1), policy())


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("beams", "an object of `keras_moe.generation`"),
        (Greedy, "an object, not a class. Received: strategy=Greedy"),
    ],
)
def test_refuses_what_is_no_strategy(model, strategy, message):
    for refuse in (
        lambda: decode(model, IDS, LENGTH, strategy),
        lambda: compile_decoder(model, LENGTH, strategy),
        lambda: model.generate(IDS, LENGTH, strategy=strategy),
    ):
        with pytest.raises(ValueError, match=message):
            refuse()


@dataclasses.dataclass
class Unhashable:
    """Has settings that may change, and so no hash."""

    strategy: Greedy = dataclasses.field(default_factory=Greedy)

    def decode(self, *args, **kwargs):
        return self.strategy.decode(*args, **kwargs)


def test_what_cannot_be_a_key_decodes_but_is_not_compiled_for(model):
    expected = decode(model, IDS, LENGTH)["token_ids"]
    received = decode(model, IDS, LENGTH, Unhashable())["token_ids"]
    np.testing.assert_array_equal(received, expected)
    with pytest.raises(ValueError, match="`strategy` must be hashable.*Unhash"):
        model.generate(IDS, LENGTH, strategy=Unhashable())
