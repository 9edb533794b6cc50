"""Early exit with all kinds of models, heads, strategies and compilers."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.generation import BeamSearch
from keras_moe.generation import Sampling
from keras_moe.generation import SelfSpeculative
from keras_moe.generation import compile_decoder
from keras_moe.generation import decode
from tests.covering import covering
from tests.generation.early_exit_case import LENGTH
from tests.generation.early_exit_case import assert_same
from tests.generation.early_exit_case import assert_varied
from tests.generation.early_exit_case import compiled
from tests.generation.early_exit_case import expected_answer
from tests.generation.early_exit_case import make_model
from tests.generation.early_exit_case import make_source
from tests.generation.early_exit_case import policy
from tests.generation.early_exit_case import run

IDS = make_source()


@pytest.fixture(scope="module")
def model():
    return make_model()


# === XLA ===


# By default in `compiled_test`: it takes seconds.
@pytest.mark.large
@pytest.mark.parametrize(
    "early_exit",
    [policy(), policy("state", exit_interval=2)],
    ids=["softmax", "state"],
)
def test_xla(model, early_exit):
    decoder = compiled(model, early_exit, jit_compile=True)
    expected = run(model, IDS, early_exit)
    assert_varied(expected, 2)
    assert_same(decoder(IDS), expected)
    never = decoder(IDS, np.nan)
    np.testing.assert_array_equal(
        never["token_ids"], run(model, IDS)["token_ids"]
    )


def test_thresholds_share_a_program():
    model = make_model(num_decoder_layers=2)
    starts = []
    start_from = model.start_from
    model.start_from = lambda *a, **k: starts.append(1) or start_from(*a, **k)
    for threshold in (0.3, 0.5, 2.0):
        early_exit = policy("state", threshold=threshold)
        received = model.generate(IDS, LENGTH, early_exit=early_exit)
        traced = len(starts)
        assert_same(received, run(model, IDS, early_exit))
        del starts[traced:]
    assert traced == 1


# === The head ===


@pytest.mark.parametrize(
    ("confidence", "tied"),
    covering(["softmax", "entropy"], [False, True], strength=1),
)
def test_a_shortlist_of_all_is_none(model, confidence, tied):
    if tied:
        model = make_model(tie_embeddings=True)
    expected = run(model, IDS, policy(confidence))
    received = run(model, IDS, policy(confidence, shortlist_size=32))
    assert len(set(expected["exit_layer"].ravel())) > 3
    assert_same(received, expected)


def test_a_shortlist(model):
    early_exit = policy(threshold=0.5, shortlist_size=9)
    received = run(model, IDS, early_exit)
    assert_varied(received)
    # Tokens are of the whole vocabulary.
    assert received["token_ids"].max() >= 9
    assert_same(received, expected_answer(model, IDS, early_exit))


# === Sampling ===


def test_sampling(model):
    sampling = Sampling(temperature=1.5, seed=1)
    answer = run(model, IDS, policy(), sampling)
    assert_varied(answer)
    assert np.any(answer["token_ids"] != run(model, IDS, policy())["token_ids"])
    assert_same(run(model, IDS, policy(), sampling), answer)
    # Draws belong to places: the rows above may be any, those below fewer.
    other = IDS[:4].copy()
    other[1] = 7
    rows = [0, 2, 3]
    received = run(model, other, policy(), sampling)
    assert_same(
        {k: v[rows] for k, v in received.items()},
        {k: v[rows] for k, v in answer.items()},
    )


def test_sampling_without_exits(model):
    sampling = Sampling(seed=3)
    full = run(model, IDS, policy(threshold=2.0), sampling)
    expected = run(model, IDS, None, sampling)
    for name, value in expected.items():
        np.testing.assert_array_equal(full[name], value)


# === Other models ===


# The last is an id that this model says now and then.
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param(
            {
                "attention": "random_feature",
                "num_random_features": 8,
                "end_id": 10,
            },
            marks=pytest.mark.large,
        ),
        {"position_encoding": "rotary", "end_id": 14},
    ],
    ids=["random_feature", "rotary"],
)
def test_attention(sizes):
    model = make_model(**sizes)
    expected = expected_answer(model, IDS, policy())
    assert_varied(expected)
    for propagation in ("deferred", "eager"):
        early_exit = policy(propagation=propagation)
        assert_same(run(model, IDS, early_exit), expected)


def operations(graph_def):
    functions = graph_def.library.function
    nodes = [*graph_def.node, *(n for f in functions for n in f.node_def)]
    return {node.op for node in nodes}


def test_experts():
    model = make_model(num_experts=4, end_id=26)
    expected = expected_answer(model, IDS, policy())
    assert_varied(expected)
    for propagation in ("deferred", "eager"):
        early_exit = policy(propagation=propagation)
        assert_same(run(model, IDS, early_exit), expected)


def test_nothing_is_assigned_or_drawn():
    """Down to the loop and its branches."""
    model = make_model(num_decoder_layers=2, num_experts=4)
    decoder = compile_decoder(model, LENGTH, early_exit=policy())
    graph = decoder.get_concrete_function().graph.as_graph_def()
    names = operations(graph)
    assert {"While", "StatelessWhile"} & names
    assert {"If", "StatelessIf"} & names
    assert not [name for name in names if "Assign" in name or "Random" in name]


@pytest.mark.parametrize(
    "confidence", [pytest.param("softmax", marks=pytest.mark.large), "state"]
)
def test_mixed_precision(confidence):
    model = make_model(dtype="mixed_bfloat16")
    deferred = run(model, IDS, policy(confidence))
    eager = run(model, IDS, policy(confidence, propagation="eager"))
    assert_varied(deferred)
    assert deferred["confidence"].dtype == np.float32
    for name in ("token_ids", "exit_layer"):
        np.testing.assert_array_equal(deferred[name], eager[name])


# === Arguments ===


def test_refuses_what_the_model_lacks(model):
    ids = tf.constant(IDS)
    with pytest.raises(ValueError, match="at most the vocabulary, 32. Rec"):
        decode(model, ids, 4, early_exit=policy(shortlist_size=33))
    with pytest.raises(ValueError, match="`min_exit_layer` must be at most 4"):
        decode(model, ids, 4, early_exit=policy(min_exit_layer=5))
    model = make_model(exit_classifier=False)
    with pytest.raises(ValueError, match="needs a model with `exit_class"):
        decode(model, ids, 4, early_exit=policy("classifier"))


@pytest.mark.parametrize("strategy", [BeamSearch(2), SelfSpeculative(1)])
def test_refuses_strategies_that_run_all_layers(model, strategy):
    message = f"{type(strategy).__name__} runs all layers: `early_exit` must"
    with pytest.raises(ValueError, match=message):
        decode(model, tf.constant(IDS), 4, strategy, policy())
