"""Hard negatives, and what a search finds after an epoch."""

import keras
import keras_rs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.layers import Retrieval
from keras_moe.models import DualEncoder
from keras_moe.models import RetrievalEvaluation
from keras_moe.models import mine_hard_negatives

DOCUMENTS, DIM = 30, 4


def draw(seed, queries=5):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(DOCUMENTS, DIM)).astype("float32")
    return (
        rng.normal(size=(queries, DIM)).astype("float32"),
        vectors,
        rng.integers(0, DOCUMENTS, queries),
        rng.integers(-1, 12, (DOCUMENTS, 2)),
    )


def by_hand(queries, vectors, positives, keys, number, skip):
    mined = []
    for query, positive in zip(queries, positives, strict=True):
        own = {key for key in keys[positive] if key >= 0}
        order = np.argsort(-(vectors @ query), kind="stable")
        allowed = [
            row
            for row in order
            if row != positive and not own & set(keys[row].tolist())
        ]
        mined.append(allowed[skip : skip + number])
    return mined


@given(
    number=st.integers(1, 6),
    skip=st.integers(0, 3),
    batch_size=st.integers(1, 6),
    seed=st.integers(0, 999),
)
def test_finds_the_best_that_are_wrong(number, skip, batch_size, seed):
    queries, vectors, positives, keys = draw(seed)
    options = {"skip": skip, "document_keys": keys, "batch_size": batch_size}
    mined = mine_hard_negatives(queries, vectors, positives, number, **options)
    assert mined.dtype == "int32"
    assert mined.tolist() == by_hand(
        queries, vectors, positives, keys, number, skip
    )


def test_asks_for_more_where_many_are_not_allowed():
    """All but the two worst are the same document as the right one."""
    vectors = np.linspace(1, 0, DOCUMENTS)[:, None] * np.ones(DIM)
    keys = np.zeros(DOCUMENTS, int)
    keys[-2:] = 1
    options = {"document_keys": keys}
    query = np.ones((1, DIM))
    mined = mine_hard_negatives(query, vectors, [0], 2, **options)
    assert mined.tolist() == [[DOCUMENTS - 2, DOCUMENTS - 1]]
    with pytest.raises(ValueError, match="at least 3 documents.*2 of 30"):
        mine_hard_negatives(query, vectors, [0], 3, **options)
    options["search"] = Retrieval(vectors.astype("float32"), k=5)
    with pytest.raises(ValueError, match="at least 2 documents.*0 of 5"):
        mine_hard_negatives(query, vectors, [0], 2, **options)


def test_takes_any_search():
    queries, vectors, positives, _ = draw(1)
    search = Retrieval(vectors, k=9)
    np.testing.assert_array_equal(
        mine_hard_negatives(queries, vectors, positives, 4, search=search),
        mine_hard_negatives(queries, vectors, positives, 4),
    )
    # A row below 0 is no answer.
    none = np.full((5, 9), -1)
    with pytest.raises(ValueError, match="0 of 9 for a query"):
        mine_hard_negatives(
            queries, vectors, positives, 1, search=lambda q: (q, none)
        )
    nothing = mine_hard_negatives(queries[:0], vectors, positives[:0], 4)
    assert nothing.shape == (0, 4)


@pytest.mark.parametrize(
    ("positives", "message"),
    [
        ([0], r"for the 5 queries. Received: shape=\(1,\)"),
        ([0.0] * 5, "dtype=float64"),
        ([0, 1, 2, 3, 30], "rows of the 30 documents. Received: 0 to 30"),
        ([0, 1, 2, 3, -1], "Received: -1 to 3"),
    ],
)
def test_refuses_rows_that_do_not_exist(positives, message):
    queries, vectors, _, _ = draw(0)
    with pytest.raises(ValueError, match=message):
        mine_hard_negatives(queries, vectors, positives, 1)


def identity():
    return keras.Sequential([keras.Input((DIM,)), keras.layers.Identity()])


def test_measures_a_search_over_all_documents():
    queries, vectors, positives, _ = draw(2, queries=7)
    found = np.argsort(
        -(queries @ vectors.T) / np.linalg.norm(vectors, axis=1), axis=1
    )
    ranks = 1 + np.argmax(found == positives[:, None], axis=1)
    model = DualEncoder(identity())
    names = [f"document {row}" for row in range(DOCUMENTS)]
    search = RetrievalEvaluation(
        queries,
        vectors,
        [names[row] for row in positives],
        names,
        k=20,
        batch_size=3,
    )
    expected = {
        "val_mrr": np.mean(np.where(ranks <= 20, 1 / ranks, 0)),
        **{f"val_recall_at_{k}": np.mean(ranks <= k) for k in (1, 10, 20)},
    }
    assert search.measure(model) == pytest.approx(expected, rel=1e-6)
    # The second time, too.
    assert search.measure(model) == pytest.approx(expected, rel=1e-6)


def test_a_callback_after_it_sees_what_it_measured():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, DIM)).astype("float32")
    model = DualEncoder(
        keras.Sequential([keras.Input((DIM,)), keras.layers.Dense(2)])
    )
    model.compile("sgd", run_eagerly=True)
    history = model.fit(
        {"query": x, "document": x},
        callbacks=[
            RetrievalEvaluation(x, x, np.arange(12), k=5),
            keras.callbacks.EarlyStopping("val_mrr", mode="max", patience=1),
        ],
        epochs=5,
        verbose=0,
    ).history
    assert history["val_mrr"] == [1.0, 1.0]


def test_refuses_metrics_that_look_further():
    with pytest.raises(ValueError, match="k=5, and 'recall' with k=6"):
        RetrievalEvaluation(
            np.zeros((1, DIM)),
            np.zeros((9, DIM)),
            [0],
            k=5,
            metrics=[keras_rs.metrics.RecallAtK(k=6, name="recall")],
        )
