"""Every way to decode, compiled by XLA, against the same without."""

import re

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.generation import BeamSearch
from keras_moe.generation import Sampling
from keras_moe.generation import SelfSpeculative
from keras_moe.generation import decode
from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import SparseMoE
from tests.covering import covering
from tests.generation.early_exit_case import LENGTH
from tests.generation.early_exit_case import THRESHOLDS
from tests.generation.early_exit_case import arrays
from tests.generation.early_exit_case import make_model
from tests.generation.early_exit_case import make_source
from tests.generation.early_exit_case import policy

IDS = make_source()
ROWS = len(IDS)
SPARSE = {"num_experts": 4, "moe_every": 2, "num_encoder_layers": 2}
MODELS = {
    "dense": {},
    "random features": {"attention": "random_feature"},
    # The ragged executor hands over to that of slots.
    "ragged": SPARSE,
    "expert choice": {**SPARSE, "encoder_router": "expert_choice"},
    "einsum": SPARSE,
    "rotary": {"position_encoding": "rotary"},
}
WAYS = {
    "greedy": {},
    "sampling": {"strategy": Sampling(temperature=1.3, top_p=0.9, seed=3)},
    "beams": {"strategy": BeamSearch(3)},
    "softmax exits": {"early_exit": policy()},
    "state exits": {"early_exit": policy("state", decay="calm")},
    "classifier exits": {"early_exit": policy("classifier")},
    "self-speculative": {"strategy": SelfSpeculative(1, 2)},
}
# XLA takes seconds for each. By default it compiles, for less, also `greedy`
# (models/switch_transformer/generation_test.py), `sampling` (sampling_test.py),
# `beams` (beam_search_test.py), `self-speculative`
# (contracts/own_model_test.py), the executors (layers/moe) and random features
# (layers/attention).
DEFAULT = ("state exits",)
CASES = [
    case
    if case.values[0] in DEFAULT
    else pytest.param(*case.values, marks=pytest.mark.large)
    for case in covering(WAYS, MODELS, strength=1)
    # Sums of the past cannot be taken back.
    if case.values != ("self-speculative", "random features")
]


def make(kind):
    model = make_model(num_decoder_layers=2, **MODELS[kind])
    choose = np.random.default_rng(2)
    for layer in flatten_layers(model):
        if isinstance(layer, SparseMoE):
            if kind in ("einsum", "ragged"):
                layer.dispatch = kind
            # Default routers see all experts as equal.
            for weight in layer.router.trainable_weights:
                weight.assign(choose.normal(size=weight.shape))
    return model


def compile_by_xla(model, way):
    # Nothing but the compiler says that shapes are static.
    return tf.function(
        lambda ids: decode(model, ids, LENGTH, **WAYS[way]),
        jit_compile=True,
        autograph=False,
    )


def pad(ids, kind):
    """Adds rows and positions, as for the next shape that is compiled."""
    # Experts that choose count padding.
    more = 0 if kind == "expert choice" else 3
    return tf.constant(np.pad(ids, ((0, 2), (0, more))))


@pytest.mark.filterwarnings("ignore:dispatch='einsum' multiplies")
@pytest.mark.parametrize(("way", "kind"), CASES)
def test_answers_as_without_xla(way, kind):
    model = make(kind)
    expected = arrays(decode(model, tf.constant(IDS), LENGTH, **WAYS[way]))
    assert len(set(expected["token_ids"].ravel())) > 6
    compiled, padded = compile_by_xla(model, way), pad(IDS, kind)
    received = arrays(compiled(padded))
    assert set(received) == set(expected)
    for name, value in expected.items():
        if value.dtype == np.int32:
            np.testing.assert_array_equal(received[name][:ROWS], value, name)
        else:
            np.testing.assert_allclose(
                received[name][:ROWS], value, rtol=0, atol=1e-5, err_msg=name
            )
    assert not np.any(received["token_ids"][ROWS:])
    program = compiled.experimental_get_compiler_ir(padded)(stage="hlo")
    assert "while" in program and not dynamic_shapes(program)


def dynamic_shapes(program):
    """Returns the shapes of an HLO text that are known at run time alone."""
    return re.findall(r"\w+\[[^\[\]]*<=[^\[\]]*\]", program)


def test_finds_dynamic_shapes():
    @tf.function(jit_compile=True, autograph=False)
    def positive(x):
        return tf.reduce_sum(tf.boolean_mask(x, x > 0.0))

    x = tf.constant([1.0, -2.0])
    program = positive.experimental_get_compiler_ir(x)(stage="hlo")
    assert dynamic_shapes(program)


@pytest.mark.large
@pytest.mark.filterwarnings("ignore:dispatch='einsum' multiplies")
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", ["greedy", "sampling", "softmax exits"])
def test_few_answers_turn_on_rounding(way, kind):
    model = make(kind)
    ids = np.random.default_rng(5).integers(2, 32, (1000, 7)).astype("int32")
    plain = arrays(decode(model, tf.constant(ids), LENGTH, **WAYS[way]))
    padded = pad(ids, kind)
    compiled = arrays(compile_by_xla(model, way)(padded))
    same = np.ones((len(ids), LENGTH), bool)
    for name in ("token_ids", "exit_layer"):
        if name in plain:
            same &= plain[name] == compiled[name][: len(ids)]
    differ = np.flatnonzero(~same.all(axis=1))
    print(f"{way}, {kind}: {len(differ)} of {len(ids)} answers differ")
    assert len(differ) <= 0.01 * len(ids)
    if "exit_layer" in plain and not model.config.num_experts:
        first = same[differ].argmin(axis=1)
        sure = plain["confidence"][differ, first]
        assert np.all(np.abs(sure - THRESHOLDS["softmax"]) < 1e-4)
