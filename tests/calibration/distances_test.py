import collections
import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_moe import calibration
from keras_moe import metrics

DISTANCES = (
    calibration.edit_distance_error,
    calibration.token_f1_distance,
    calibration.rouge_l_distance,
)
sequences = st.lists(st.sampled_from("abcd"), max_size=9)
alternatives = st.lists(sequences, min_size=1, max_size=3)


def slow_common(a, b):
    """The definition, by recursion on prefixes."""

    @functools.cache
    def common(i, j):
        if not i or not j:
            return 0
        if a[i - 1] == b[j - 1]:
            return common(i - 1, j - 1) + 1
        return max(common(i - 1, j), common(i, j - 1))

    return common(len(a), len(b))


def slow_shared(a, b):
    counts = collections.Counter(b)
    shared = 0
    for symbol in a:
        if counts[symbol]:
            counts[symbol] -= 1
            shared += 1
    return shared


def one_minus_f1(shared, a, b):
    if not a and not b:
        return 0.0
    if not shared:
        return 1.0
    precision, recall = shared / len(a), shared / len(b)
    return 1 - 2 * precision * recall / (precision + recall)


@given(sequences, alternatives)
def test_rouge_l_is_the_definition(prediction, references):
    expected = min(
        one_minus_f1(slow_common(prediction, r), prediction, r)
        for r in references
    )
    distance = calibration.rouge_l_distance(prediction, *references)
    assert distance == pytest.approx(expected)


# rapidfuzz compares hashes, and a character with the number of its code:
# several of these are one symbol to it.
confusable = st.lists(
    st.sampled_from(
        ["a", 97, -1, -2, 0, 2**61 - 1, None, "", ("a",), np.int64(97), 97.0]
    ),
    max_size=6,
)


@given(confusable, confusable)
def test_symbols_are_told_apart_as_python_does(a, b):
    expected = one_minus_f1(slow_common(a, b), a, b)
    assert calibration.rouge_l_distance(a, b) == pytest.approx(expected)
    assert (calibration.edit_distance_error(a, b) == 0.0) == (a == b)


def test_rouge_l_of_long_sequences():
    """Longer than a machine word, where bits must carry on."""
    random = np.random.default_rng(0)
    a, b = random.integers(0, 5, [2, 300]).tolist()
    table = np.zeros([301, 301], int)
    for i in range(300):
        for j in range(300):
            table[i + 1, j + 1] = (
                table[i, j] + 1
                if a[i] == b[j]
                else max(table[i, j + 1], table[i + 1, j])
            )
    expected = 1 - table[-1, -1] / 300
    assert calibration.rouge_l_distance(a, b) == pytest.approx(expected)


@given(sequences, alternatives)
def test_token_f1_is_the_definition(prediction, references):
    expected = min(
        one_minus_f1(slow_shared(prediction, r), prediction, r)
        for r in references
    )
    distance = calibration.token_f1_distance(prediction, *references)
    assert distance == pytest.approx(expected)


@given(sequences, alternatives)
def test_edit_distance_error_is_a_rate_cut_off(prediction, references):
    distances = [metrics.edit_distance(prediction, r) for r in references]
    nearest = references[distances.index(min(distances))]
    error = calibration.edit_distance_error(prediction, *references)
    if nearest:
        rate = metrics.symbol_error_rate([prediction], [references])
        assert error == min(rate, 1.0)
    else:
        assert error == (1.0 if prediction else 0.0)


@pytest.mark.parametrize("distance", DISTANCES)
@given(sequences, alternatives)
def test_they_are_in_the_unit_interval(distance, prediction, references):
    found = distance(prediction, *references)
    assert 0.0 <= found <= 1.0
    # Equal for any order means little; equal sequences are at 0 exactly.
    assert distance(prediction, prediction) == 0.0
    assert distance(prediction, *references, prediction) == 0.0
    if distance is not calibration.token_f1_distance:
        assert (found == 0.0) == (prediction in references)


@pytest.mark.parametrize("distance", DISTANCES)
def test_empty_sequences(distance):
    assert distance([], []) == 0.0
    assert distance(["a"], []) == 1.0
    assert distance([], ["a"]) == 1.0
    assert distance(["a"], ["b"]) == 1.0


@pytest.mark.parametrize("distance", DISTANCES)
def test_symbols_of_any_kind(distance):
    assert distance((1, 2), (1, 2)) == 0.0
    assert distance(np.array([1, 2]), [1, 2]) == 0.0
    assert distance([("a", 1), None], [("a", 1), None]) == 0.0


@pytest.mark.parametrize("distance", DISTANCES)
def test_invalid_input(distance):
    with pytest.raises(TypeError, match="not strings: .* Received: 'a b'"):
        distance("a b", ["a"])
    with pytest.raises(TypeError, match="not strings"):
        distance(["a"], ["a"], "a")
    with pytest.raises(ValueError, match="`references` must hold one"):
        distance(["a"])
