"""Metrics of what a search found, held against sums by hand."""

import math

import keras
import keras_rs
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.metrics import SearchMetric

KINDS = {
    "mrr": keras_rs.metrics.MeanReciprocalRank,
    "recall": keras_rs.metrics.RecallAtK,
    "precision": keras_rs.metrics.PrecisionAtK,
    "map": keras_rs.metrics.MeanAveragePrecision,
    "ndcg": keras_rs.metrics.NDCG,
}


def by_hand(kind, relevant, found, k):
    hits = [each in relevant for each in found[:k]]
    ranks = [rank for rank, hit in enumerate(hits, 1) if hit]
    if kind == "mrr":
        return 1 / ranks[0] if ranks else 0
    if kind == "recall":
        return len(ranks) / len(relevant)
    if kind == "precision":
        return len(ranks) / k
    if kind == "map":
        precisions = [(i + 1) / rank for i, rank in enumerate(ranks)]
        return sum(precisions) / len(relevant)
    ideal = range(1, min(k, len(relevant)) + 1)
    gain = [sum(1 / math.log2(r + 1) for r in each) for each in (ranks, ideal)]
    return gain[0] / gain[1]


@given(
    kind=st.sampled_from(sorted(KINDS)),
    k=st.integers(1, 5),
    strings=st.booleans(),
    seed=st.integers(0, 999),
)
def test_counts_what_was_missed(kind, k, strings, seed):
    rng = np.random.default_rng(seed)
    found = np.stack([rng.permutation(9)[:5] for _ in range(4)])
    relevant = [rng.permutation(9)[: rng.integers(1, 4)] for _ in range(4)]
    expected = [
        by_hand(kind, set(r), f.tolist(), k)
        for r, f in zip(relevant, found, strict=True)
    ]
    padded = np.full((4, 3), -1)
    for row, each in zip(padded, relevant, strict=True):
        row[: len(each)] = each
    if strings:
        padded = np.where(padded < 0, "", padded.astype(str))
        found = found.astype(str)
    weights = rng.uniform(0.1, 2, 4)
    metric = SearchMetric(KINDS[kind](k=k))
    for rows in (slice(0, 3), slice(3, 4)):
        metric.update_state(padded[rows], found[rows])
    assert float(metric.result()) == pytest.approx(np.mean(expected), abs=1e-6)
    metric.reset_state()
    metric.update_state(padded, found, weights)
    weighted = np.average(expected, weights=weights)
    assert float(metric.result()) == pytest.approx(weighted, abs=1e-6)


@pytest.mark.parametrize("none", [-1, ""])
def test_no_answer_is_no_hit(none):
    metric = SearchMetric(keras_rs.metrics.RecallAtK(k=2))
    right = 3 if none == -1 else "c"
    metric.update_state([[right, none]], [[none, right]])
    assert float(metric.result()) == 1
    metric.update_state([[right, none]], [[none, none]])
    assert float(metric.result()) == 0.5


def test_works_in_a_graph_and_survives_its_config():
    metric = SearchMetric(keras_rs.metrics.RecallAtK(k=2), name="found")
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(metric)
    )
    assert copy.name == "found" and copy.metric.k == 2
    update = tf.function(lambda y, found: copy.update_state(y, found))
    update(tf.constant([1, 5]), tf.constant([[0, 1], [0, 1]], tf.int64))
    assert float(copy.result()) == 0.5


def test_refuses_what_has_no_end():
    with pytest.raises(ValueError, match="with a `k`.*k=None"):
        SearchMetric(keras_rs.metrics.RecallAtK())
    with pytest.raises(ValueError, match="ranking metric of keras-rs"):
        SearchMetric(keras.metrics.Mean())
    metric = SearchMetric(keras_rs.metrics.RecallAtK(k=3))
    with pytest.raises(ValueError, match=r"k=3 identifiers.*shape=\(1, 2\)"):
        metric.update_state([1], [[1, 2]])
