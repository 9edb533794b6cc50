import functools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.generation import compile_decoder
from tests.covering import covering
from tests.generation.early_exit_case import LENGTH
from tests.generation.early_exit_case import THRESHOLDS
from tests.generation.early_exit_case import arrays
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


@pytest.fixture(scope="module")
def decoders(model):
    """Compiled functions, by propagation; each when it is first needed."""
    return functools.cache(
        lambda propagation: compiled(model, policy(propagation=propagation))
    )


# === The reference ===


@pytest.mark.parametrize("propagation", ["deferred", "eager"])
def test_equals_the_reference(model, decoders, propagation):
    early_exit = policy(propagation=propagation)
    received = decoders(propagation)(IDS)
    assert_varied(received)
    assert_same(received, expected_answer(model, IDS, early_exit))


@pytest.mark.parametrize(
    ("confidence", "propagation"),
    covering(
        ["state", "entropy", "classifier"], ["deferred", "eager"], strength=1
    ),
)
def test_confidences_equal_the_reference(model, confidence, propagation):
    early_exit = policy(confidence, propagation=propagation)
    received = run(model, IDS, early_exit)
    assert_varied(received)
    assert_same(received, expected_answer(model, IDS, early_exit))


def test_results_are_what_is_documented(decoders):
    answer = decoders("deferred")(IDS)
    assert {name: value.dtype for name, value in answer.items()} == {
        "token_ids": "int32",
        "log_probability": "float32",
        "token_log_probability": "float32",
        "exit_layer": "int32",
        "confidence": "float32",
    }
    spoken = answer["token_ids"] != 0
    np.testing.assert_array_equal(answer["exit_layer"] > 0, spoken)
    assert not np.any(answer["confidence"][~spoken])
    # Who left below the last layer was sure; who did not was not.
    early = spoken & (answer["exit_layer"] < 4)
    sure = answer["confidence"] >= np.float32(THRESHOLDS["softmax"])
    np.testing.assert_array_equal(sure, early)


def test_deferred_equals_eager_for_all_thresholds(decoders):
    for threshold in np.linspace(0.05, 0.95, 10):
        assert_same(
            decoders("eager")(IDS, threshold),
            decoders("deferred")(IDS, threshold),
        )


# === The last layer ===


def test_without_exits_it_is_greedy(model, decoders):
    greedy = arrays(compile_decoder(model, LENGTH)(tf.constant(IDS)))
    for propagation in ("deferred", "eager"):
        for threshold in (1.5, np.inf, np.nan):
            full = decoders(propagation)(IDS, threshold)
            for name, value in greedy.items():
                np.testing.assert_array_equal(full[name], value)
            np.testing.assert_array_equal(
                full["exit_layer"], 4 * (full["token_ids"] != 0)
            )
    assert np.any(greedy["token_ids"] != decoders("deferred")(IDS)["token_ids"])


@pytest.mark.parametrize(
    "decay", [None, "calm", pytest.param("t5x", marks=pytest.mark.large)]
)
def test_what_is_no_number_is_never_reached(model, decay):
    thresholds = np.float32([np.nan, np.nan, -2.0, np.nan, -2.0, -2.0])
    never = np.isnan(thresholds)
    early_exit = policy("state", decay=decay)
    answer = run(model, IDS, early_exit, threshold=thresholds)
    depths = answer["exit_layer"]
    assert set(depths[never].ravel()) - {0} == {4}
    assert depths[~never].max() < 4
    greedy = run(model, IDS[never])
    np.testing.assert_array_equal(
        answer["token_ids"][never], greedy["token_ids"]
    )
    for jit_compile in (False, True):
        at = tf.function(
            lambda position: early_exit.threshold_at(
                tf.constant(thresholds), position, LENGTH
            ),
            jit_compile=jit_compile,
            autograph=False,
        )
        np.testing.assert_array_equal(np.isnan(at(tf.constant(3))), never)


# === Rows ===


@st.composite
def batches(draw):
    """Rows of other lengths, some empty; a threshold for each."""
    thresholds = [np.nan, -1.0, 0.1, 0.3, 0.45, 0.6, 1.0, 2.0]
    count = draw(st.integers(1, 5))
    width = draw(st.integers(1, 7))
    rows = [
        draw(st.lists(st.integers(1, 31), max_size=width).map(tuple))
        for _ in range(count)
    ]
    return width, [(row, draw(st.sampled_from(thresholds))) for row in rows]


@pytest.mark.parametrize("propagation", ["deferred", "eager"])
def test_rows_do_not_know_each_other(decoders, propagation):
    decode = decoders(propagation)
    kinds = set()

    @hypothesis.given(batches())
    def check(batch):
        width, rows = batch
        ids = np.zeros((len(rows), width), "int32")
        for place, (words, _) in enumerate(rows):
            ids[place, : len(words)] = words
        together = decode(ids, [threshold for _, threshold in rows])
        for place, (words, threshold) in enumerate(rows):
            # Without the padding, too.
            alone = decode(np.int32([words or [0]]), threshold)
            assert_same(
                {k: v[place : place + 1] for k, v in together.items()}, alone
            )
            kinds.update(alone["exit_layer"].ravel())

    check()
    assert kinds == {0, 1, 2, 3, 4}


def test_rows_that_end_do_not_change(decoders):
    decode = decoders("deferred")
    answer = decode(IDS)
    lengths = (answer["exit_layer"] > 0).sum(axis=1)
    assert len(set(lengths)) > 2
    for row, length in enumerate(lengths):
        assert not np.any(answer["token_ids"][row, length:])
        ended = answer["token_ids"][row, length - 1] == 1
        assert ended or length in (0, LENGTH)


def test_a_threshold_for_each_row(model, decoders):
    thresholds = np.float32([0.1, 0.3, 0.45, 2.0, 0.3, 0.6])
    decode = decoders("deferred")
    received = decode(IDS, thresholds)
    expected = expected_answer(
        model, IDS, policy(), thresholds=thresholds.tolist()
    )
    assert_same(received, expected)
    for threshold in set(thresholds):
        rows = thresholds == threshold
        same = decode(IDS, threshold)
        assert_same(
            {k: v[rows] for k, v in received.items()},
            {k: v[rows] for k, v in same.items()},
        )


def test_nothing_to_say(decoders):
    answer = decoders("deferred")(np.zeros((3, 4), "int32"))
    assert not any(np.any(value) for value in answer.values())
    answer = decoders("deferred")(np.zeros((0, 4), "int32"))
    assert answer["token_ids"].shape == (0, LENGTH)
