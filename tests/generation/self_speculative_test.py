import math

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.generation import SelfSpeculative
from keras_moe.generation import compile_decoder
from keras_moe.generation import decode
from tests.generation.early_exit_case import arrays
from tests.generation.early_exit_case import make_model
from tests.generation.early_exit_case import make_source

IDS = make_source()
LENGTH = 9


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def greedy(model):
    answer = run(model)
    lengths = (answer["token_ids"] != 0).sum(axis=1)
    assert lengths[4] == 0 and len(set(lengths)) > 2
    return answer


@pytest.fixture(scope="module")
def compiled(model):
    return compile_decoder(model, LENGTH, SelfSpeculative(2, 3))


def run(model, strategy=None, ids=IDS, max_length=LENGTH):
    """Decodes without a graph: to trace one takes longer."""
    return arrays(decode(model, tf.constant(ids), max_length, strategy))


def assert_greedy(received, greedy):
    np.testing.assert_array_equal(received["token_ids"], greedy["token_ids"])
    np.testing.assert_allclose(
        received["log_probability"],
        greedy["log_probability"],
        rtol=1e-4,
        atol=1e-5,
    )


def ignore_layers_above(model, layer):
    """Makes the upper layers return what they are given."""
    for block in model.decoder.blocks[layer:]:
        for weight in block.trainable_variables:
            # The last projection of each of the three sublayers.
            if "/output/" in weight.path or "/wo/" in weight.path:
                weight.assign(tf.zeros_like(weight))


# === The answer is greedy's ===


@pytest.mark.parametrize(
    "draft_layer, draft_length",
    [
        (2, 4),
        *(
            pytest.param(*sizes, marks=pytest.mark.large)
            for sizes in ((1, 1), (1, 4), (2, 2), (2, 12), (3, 1), (3, 4))
        ),
    ],
)
def test_equals_greedy(model, greedy, draft_layer, draft_length):
    received = run(model, SelfSpeculative(draft_layer, draft_length))
    assert_greedy(received, greedy)
    passes = set(received["num_verifications"])
    longest = (greedy["token_ids"] != 0).sum(axis=1).max()
    assert len(passes) == 1
    assert math.ceil(longest / (draft_length + 1)) <= min(passes) <= longest


@pytest.mark.parametrize(
    "seed, sizes",
    [
        pytest.param(2, {}, marks=pytest.mark.large),
        (3, {"position_encoding": "rotary"}),
        (4, {"num_experts": 4, "tie_embeddings": True}),
    ],
    ids=["dense", "rotary", "sparse"],
)
def test_equals_greedy_for_other_models(seed, sizes):
    model = make_model(seed, num_decoder_layers=2, **sizes)
    ids = np.random.default_rng(seed).integers(2, 32, (12, 5)).astype("int32")
    ids[seed] = 0
    assert_greedy(
        run(model, SelfSpeculative(1, seed), ids, max_length=6),
        run(model, None, ids, max_length=6),
    )


def test_in_a_graph(model, greedy, compiled):
    answer = compiled(tf.constant(IDS))
    assert answer["token_ids"].dtype == tf.int32
    assert answer["log_probability"].dtype == tf.float32
    assert answer["num_verifications"].dtype == tf.int32
    assert_greedy(answer, greedy)
    # Many drafts, all kinds of agreement.
    ids = np.random.default_rng(5).integers(1, 32, (64, 6)).astype("int32")
    ids[ids < 5] = 0
    assert_greedy(compiled(tf.constant(ids)), run(model, None, ids))


def test_rows_do_not_know_each_other(greedy, compiled):
    for row in range(len(IDS)):
        alone = compiled(tf.constant(IDS[row : row + 1]))
        rest = {name: value[row : row + 1] for name, value in greedy.items()}
        assert_greedy(alone, rest)


@pytest.mark.parametrize(
    "max_length", [1, pytest.param(5, marks=pytest.mark.large)]
)
def test_a_draft_may_go_beyond_the_end(model, max_length):
    received = run(model, SelfSpeculative(3, 2), max_length=max_length)
    assert received["token_ids"].shape == (len(IDS), max_length)
    assert_greedy(received, run(model, max_length=max_length))


def test_nothing_to_say(compiled):
    answer = arrays(compiled(tf.zeros((3, 4), tf.int32)))
    assert not any(np.any(value) for value in answer.values())


# === How often all layers run ===


# Drafts of one token, by default, below.
@pytest.mark.parametrize(
    "draft_length", [pytest.param(1, marks=pytest.mark.large), 4]
)
def test_good_drafts_save_passes(draft_length):
    model = make_model()
    ignore_layers_above(model, 2)
    expected = run(model)
    longest = (expected["token_ids"] != 0).sum(axis=1).max()
    received = run(model, SelfSpeculative(2, draft_length))
    assert_greedy(received, expected)
    assert set(received["num_verifications"]) == {
        math.ceil(longest / (draft_length + 1))
    }


@pytest.mark.parametrize(
    "draft_layer", [pytest.param(2, marks=pytest.mark.large), 3]
)
def test_rows_that_have_ended_do_not_hold_up(model, greedy, draft_layer):
    tokens = greedy["token_ids"]
    lengths = (tokens != 0).sum(axis=1)
    # What a draft of one token says after what is right.
    said = np.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
    inputs = {"encoder_token_ids": IDS, "decoder_token_ids": said}
    (hidden,) = model.exit_states(inputs, [draft_layer])
    logits = np.array(model.logits(hidden))
    logits[..., 0] = -1e9
    right = logits.argmax(axis=-1) == tokens
    position = passes = 0
    while position < lengths.max():
        # A row is done where it has nothing to say after this token.
        done = position + 1 >= lengths
        position += 2 if np.all(right[:, position] | done) else 1
        passes += 1
    received = run(model, SelfSpeculative(draft_layer, 1))
    assert set(received["num_verifications"]) == {passes}
    assert passes < lengths.max()


def test_a_batch_goes_at_the_pace_of_its_slowest(model, compiled):
    together = arrays(compiled(tf.constant(IDS)))["num_verifications"]
    alone = [
        int(compiled(tf.constant(IDS[row : row + 1]))["num_verifications"][0])
        for row in range(len(IDS))
    ]
    assert len(set(alone)) > 2
    assert together[0] >= max(alone)


# === Arguments ===


@pytest.mark.parametrize("draft_layer", [4, 5])
def test_refuses_to_draft_with_all_layers(model, draft_layer):
    message = f"decoder's layers, 4. Received: draft_layer={draft_layer}"
    with pytest.raises(ValueError, match=message):
        run(model, SelfSpeculative(draft_layer))


def test_refuses_attention_that_cannot_go_back():
    model = make_model(
        num_decoder_layers=2, attention="random_feature", num_random_features=8
    )
    with pytest.raises(ValueError, match="whose state is of type Streaming"):
        run(model, SelfSpeculative(1))


@pytest.mark.parametrize("name", ["draft_layer", "draft_length"])
def test_refuses_sizes_below_1(name):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive int"):
        SelfSpeculative(**{"draft_layer": 1, name: 0})
