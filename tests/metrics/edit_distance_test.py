import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_moe import metrics

words = st.lists(st.sampled_from("abcd"), max_size=8)


def slow_distance(a, b):
    """The definition, by recursion on prefixes."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        slow_distance(a[:-1], b) + 1,
        slow_distance(a, b[:-1]) + 1,
        slow_distance(a[:-1], b[:-1]) + (a[-1] != b[-1]),
    )


@given(words.map(lambda w: w[:5]), words.map(lambda w: w[:5]))
def test_edit_distance_is_the_definition(a, b):
    assert metrics.edit_distance(a, b) == slow_distance(a, b)


# rapidfuzz compares hashes, and a character with the number of its code:
# several of these are one symbol to it.
confusable = st.lists(
    st.sampled_from(
        ["a", 97, "\xe9", 233, -1, -2, 2**61 - 1, 0, None, "", ("a",), "aa"]
        + [1, True, 1.0, 0.5, np.int64(97), np.int64(-1), np.str_("a"), b"a"]
    ),
    max_size=5,
)


@given(confusable, confusable)
def test_symbols_are_told_apart_as_python_does(a, b):
    assert metrics.edit_distance(a, b) == slow_distance(a, b)
    edits, _ = metrics.nearest_reference([a], [[b]])
    assert edits == [slow_distance(a, b)]


def test_symbols_of_different_kinds_differ():
    for a, b in (("a", 97), (-1, -2), (0, 2**61 - 1), (0, ""), (None, 0)):
        assert metrics.edit_distance([a], [b]) == 1
    assert metrics.edit_distance("ab", ["a", "b"]) == 0
    assert metrics.edit_distance(np.array([1, 2]), (1, 2.0)) == 0
    with pytest.raises(TypeError, match="unhashable"):
        metrics.edit_distance([["a"]], [["a"]])


@given(words, words, words)
def test_edit_distance_is_a_distance(a, b, c):
    ab = metrics.edit_distance(a, b)
    assert (ab == 0) == (a == b)
    assert ab == metrics.edit_distance(b, a)
    bc = metrics.edit_distance(b, c)
    assert metrics.edit_distance(a, c) <= ab + bc


@given(
    st.lists(
        st.tuples(words, st.lists(words, min_size=1, max_size=3)),
        min_size=1,
        max_size=5,
    )
)
def test_a_batch_is_its_rows(rows):
    predictions = [prediction for prediction, _ in rows]
    references = [alternatives for _, alternatives in rows]
    edits, lengths = metrics.nearest_reference(predictions, references)
    for row, (prediction, alternatives) in enumerate(rows):
        distances = [metrics.edit_distance(prediction, r) for r in alternatives]
        assert edits[row] == min(distances)
        nearest = alternatives[distances.index(min(distances))]
        assert lengths[row] == len(nearest)


def test_symbol_error_rate_counts_against_the_nearest():
    predictions = ["HH EH L UW".split(), "K AE T".split()]
    references = [
        ["HH AH L OW W".split(), "HH EH L OW".split()],
        ["K AE T".split()],
    ]
    assert metrics.symbol_error_rate(predictions, references) == 1 / 7


def test_sequence_error_rate_lenient_and_strict():
    predictions = [["B"], ["A"], ["C"], []]
    references = [[["A"], ["B"]]] * 4
    assert metrics.sequence_error_rate(predictions, references) == 0.5
    assert (
        metrics.sequence_error_rate(predictions, references, mode="strict")
        == 0.75
    )


def test_six_thousand_words_take_a_moment():
    random = np.random.default_rng(0)
    make = lambda: random.integers(0, 39, random.integers(1, 20)).tolist()  # noqa: E731
    predictions = [make() for _ in range(6000)]
    references = [[make(), make()] for _ in range(6000)]
    began = time.perf_counter()
    metrics.symbol_error_rate(predictions, references)
    assert time.perf_counter() - began < 5


def test_invalid_input():
    with pytest.raises(ValueError, match="1 predictions and 2 references"):
        metrics.symbol_error_rate([["A"]], [[["A"]], [["B"]]])
    with pytest.raises(ValueError, match="none in row 1"):
        metrics.symbol_error_rate([["A"], ["B"]], [[["A"]], []])
    with pytest.raises(ValueError, match="at least one symbol"):
        metrics.symbol_error_rate([["A"]], [[[]]])
    with pytest.raises(TypeError, match="not strings"):
        metrics.symbol_error_rate([["A"]], [["A B"]])
    with pytest.raises(TypeError, match="not strings"):
        metrics.sequence_error_rate([b"A"], [[["A"]]])
    with pytest.raises(ValueError, match="mode='loose'"):
        metrics.sequence_error_rate([["A"]], [[["A"]]], mode="loose")
    with pytest.raises(ValueError, match="must not be empty"):
        metrics.sequence_error_rate([], [])
