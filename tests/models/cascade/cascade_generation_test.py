"""Cascades of models that generate."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.calibration import DeferralRule
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import decode
from keras_moe.models import Cascade
from keras_moe.models import SwitchTransformer
from keras_moe.serving import export


@pytest.fixture(scope="module")
def generators():
    keras.utils.set_random_seed(0)
    return tuple(
        SwitchTransformer.from_preset(
            "switch_tiny",
            num_experts=0,
            num_encoder_layers=1,
            num_decoder_layers=layers,
        )
        for layers in (2, 1)
    )


@pytest.fixture(scope="module")
def sources():
    ids = np.random.default_rng(1).integers(2, 32, (12, 6))
    ids[3, 4:] = 0
    return ids


@pytest.fixture(scope="module")
def rule(generators, sources):
    """Half of the answers of the small one are not good enough."""
    rule = DeferralRule("tokens")
    scores = rule.scores(decode(generators[0], sources, 5))
    return dataclasses.replace(rule, threshold=float(np.median(scores)))


POLICY = EarlyExitPolicy("softmax", threshold=0.05)


@pytest.fixture(scope="module")
def stages(generators, sources):
    """What each stage answers on its own."""
    small, large = generators
    return (
        decode(small, sources, 5, early_exit=POLICY),
        decode(large, sources, 5),
    )


# In a graph, by default, it is exported. XLA compiles, for less, a cascade in
# cascade_test.py, and exits in generation/compiled_test.py.
@pytest.mark.usefixtures("functions_run_eagerly")
@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.large)]
)
def test_generates_by_the_stage_that_a_rule_chooses(
    generators, rule, stages, sources, jit_compile
):
    cascade = Cascade(
        generators, rule, early_exits=[POLICY, None], batch_sizes=(8,)
    )
    answer = cascade.generate(sources, 5, jit_compile=jit_compile)
    first, second = stages
    deferred = rule.defers(first).numpy()
    assert 0 < deferred.sum() < len(sources)
    np.testing.assert_array_equal(answer["stage"], deferred)
    np.testing.assert_array_equal(
        answer["token_ids"],
        np.where(deferred[:, None], second["token_ids"], first["token_ids"]),
    )
    np.testing.assert_allclose(
        answer["log_probability"],
        tf.where(deferred, second["log_probability"], first["log_probability"]),
        atol=1e-5,
    )


def test_a_cascade_that_generates_is_exported(
    generators, rule, sources, tmp_path
):
    cascade = Cascade(generators, rule, batch_sizes=(8,))
    cascade.save(tmp_path / "cascade.keras")
    loaded = keras.saving.load_model(tmp_path / "cascade.keras")
    export(
        loaded,
        tmp_path / "1",
        tokenize=lambda texts: {
            "encoder_token_ids": tf.strings.to_number(
                tf.strings.split(texts, " ").to_tensor("0"), tf.int32
            )
        },
        detokenize=lambda ids: tf.strings.reduce_join(
            tf.strings.as_string(ids), axis=1, separator=" "
        ),
        max_length=5,
    )
    version = tf.saved_model.load(tmp_path / "1")
    texts = [" ".join(map(str, row)) for row in sources]
    served = version.signatures["serving_default"](tf.constant(texts))
    expected = decode(cascade, sources, 5)
    assert set(served) == {"outputs", "token_ids", "log_probability", "stage"}
    for name in ("token_ids", "stage"):
        np.testing.assert_array_equal(served[name], expected[name])


def test_refuses_generators_that_differ(generators, rule, sources):
    small, _ = generators
    other = SwitchTransformer.from_preset("switch_tiny", vocabulary_size=40)
    with pytest.raises(ValueError, match="one vocabulary"):
        Cascade([small, other], rule)
    with pytest.raises(ValueError, match="all .*Decodable"):
        Cascade([small, keras.Sequential()], rule)
    with pytest.raises(ValueError, match="pad_id"):
        Cascade(generators, dataclasses.replace(rule, pad_id=3))
    cascade = Cascade(generators, rule)
    with pytest.raises(ValueError, match="decides by itself"):
        cascade.generate(sources, 5, early_exit=EarlyExitPolicy("softmax"))
