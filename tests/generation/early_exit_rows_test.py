import functools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.generation.early_exit_case import LENGTH
from tests.generation.early_exit_case import assert_same
from tests.generation.early_exit_case import compiled
from tests.generation.early_exit_case import expected_answer
from tests.generation.early_exit_case import make_model
from tests.generation.early_exit_case import make_source
from tests.generation.early_exit_case import policy

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
