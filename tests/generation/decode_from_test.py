"""Decoding from a memory that was encoded before."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.generation import BeamSearch
from keras_moe.generation import Greedy
from keras_moe.generation import Sampling
from keras_moe.generation import SelfSpeculative
from keras_moe.generation import decode
from keras_moe.generation import decode_from
from tests.generation.early_exit_case import arrays
from tests.generation.early_exit_case import assert_same
from tests.generation.early_exit_case import make_model
from tests.generation.early_exit_case import make_source
from tests.generation.early_exit_case import policy

IDS = make_source()
# A token takes a pass through all layers, operation by operation.
LENGTH = 5
MODELS = {
    "softmax": {"num_decoder_layers": 3},
    "random_feature": {
        "num_decoder_layers": 3,
        "attention": "random_feature",
        "num_random_features": 8,
    },
}
WAYS = {
    "greedy": {"strategy": Greedy()},
    "sampling": {"strategy": Sampling(temperature=1.3, seed=3)},
    "beams": {"strategy": BeamSearch(3)},
    "early exit": {"early_exit": policy()},
    "early exit, eager": {"early_exit": policy("state", propagation="eager")},
    "self-speculative": {"strategy": SelfSpeculative(1, 2)},
}
# Random features keep another state: it is filled late or at once by exits. How
# tokens are drawn has nothing to do with it.
DEFAULT = [
    *(("softmax", w) for w in ("greedy", "beams", "self-speculative")),
    ("random_feature", "early exit"),
]
CASES = [
    pytest.param(
        name, way, marks=() if (name, way) in DEFAULT else pytest.mark.large
    )
    for name in MODELS
    for way in WAYS
    if (name, way) != ("random_feature", "self-speculative")
]


@pytest.fixture(scope="module")
def models():
    return {name: make_model(**sizes) for name, sizes in MODELS.items()}


@pytest.fixture(scope="module")
def memories(models):
    """Encoded once, for all tests."""
    return {
        name: model.encode(tf.constant(IDS), training=False)
        for name, model in models.items()
    }


def refuse_to_encode(model, monkeypatch):
    def encode(*_args, **_kwargs):
        raise AssertionError("A memory is there.")

    monkeypatch.setattr(model, "encode", encode)


@pytest.mark.parametrize(("name", "way"), CASES)
def test_equals_decoding_from_the_source(
    models, memories, monkeypatch, name, way
):
    model = models[name]
    expected = arrays(decode(model, tf.constant(IDS), LENGTH, **WAYS[way]))
    assert np.any(expected["token_ids"])
    refuse_to_encode(model, monkeypatch)
    for static_shapes in (False, True):
        received = arrays(
            decode_from(
                model,
                *memories[name],
                LENGTH,
                **WAYS[way],
                static_shapes=static_shapes,
            )
        )
        assert_same(received, expected)
        if not static_shapes:
            for key, value in expected.items():
                np.testing.assert_array_equal(received[key], value)


@pytest.mark.parametrize(("name", "way"), CASES)
def test_padding_of_other_rows_does_not_matter(models, memories, name, way):
    # The third row has three tokens less than its neighbours.
    model, row = models[name], 2
    length = np.count_nonzero(IDS[row])
    assert length < IDS.shape[1]
    memory, mask = (part[row : row + 1] for part in memories[name])
    received = decode_from(model, memory, mask, LENGTH, **WAYS[way])
    trimmed = tf.constant(IDS[row : row + 1, :length])
    expected = decode(model, trimmed, LENGTH, **WAYS[way])
    assert_same(received, expected)


def test_hidden_memory_may_hold_anything(models, memories):
    memory, mask = memories["softmax"]
    loud = tf.where(mask[..., None], memory, 1e6)
    received = decode_from(models["softmax"], loud, mask, LENGTH)
    assert_same(received, decode(models["softmax"], IDS, LENGTH))


def test_several_decoders_share_a_memory(models, memories):
    other = make_model(seed=5, num_decoder_layers=2)
    memory, mask = memories["softmax"]
    answer = arrays(decode_from(other, memory, mask, LENGTH))
    # As if the other model had this encoder.
    twin = make_model(seed=5, num_decoder_layers=2)
    encoder = models["softmax"].encoder.weights
    for weight, value in zip(twin.encoder.weights, encoder, strict=True):
        weight.assign(value)
    table = models["softmax"].source_embedding.embeddings
    expected = []
    rows = [0, 2]
    for row in rows:
        ids = IDS[row : row + 1]
        embedded = tf.gather(table, ids)
        encoded = twin.encoder(embedded, padding_mask=ids != 0, training=False)
        part = decode_from(twin, encoded, ids != 0, LENGTH)
        expected.append(part["token_ids"].numpy()[0])
    np.testing.assert_array_equal(answer["token_ids"][rows], expected)


@pytest.mark.parametrize(
    "way",
    [
        way
        if way in ("greedy", "beams")
        else pytest.param(way, marks=pytest.mark.large)
        for way in WAYS
    ],
)
def test_a_row_without_memory_has_an_empty_answer(models, memories, way):
    memory, mask = memories["softmax"]
    hidden = mask.numpy()
    hidden[0] = False
    answer = arrays(
        decode_from(models["softmax"], memory, hidden, LENGTH, **WAYS[way])
    )
    assert not np.any(answer["token_ids"][0])
    assert answer["log_probability"][0] == 0.0
    assert np.any(answer["token_ids"][1])


def test_takes_arrays_and_masks_of_numbers(models, memories):
    memory, mask = (np.asarray(part) for part in memories["softmax"])
    received = decode_from(
        models["softmax"], memory, mask.astype("int32"), LENGTH
    )
    assert_same(received, decode(models["softmax"], IDS, LENGTH))


def test_leaves_the_model_as_it_was(memories):
    model = make_model(num_decoder_layers=2, num_experts=4)
    before = [variable.numpy() for variable in model.variables]
    metrics = [float(metric.result()) for metric in model.metrics]
    memory, mask = memories["softmax"]
    decode_from(model, memory, mask, 3)
    assert not model.losses
    assert [float(metric.result()) for metric in model.metrics] == metrics
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_refuses_masks_of_other_ranks(models, memories):
    memory, mask = memories["softmax"]
    with pytest.raises(ValueError, match=r"memory_mask.shape=\(7,\)"):
        decode_from(models["softmax"], memory, mask[0], LENGTH)
