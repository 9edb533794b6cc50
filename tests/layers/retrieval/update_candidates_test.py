"""Other candidates, and what is refused before anything is changed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers

RNG = np.random.default_rng(9)
DIM = 3
ROWS = RNG.normal(size=(8, DIM)).astype("float32")
QUERY = np.ones((1, DIM), "float32")


def names(count, first=0):
    return [f"n{i}" for i in range(first, first + count)]


def make(ids=None, **options):
    return layers.Retrieval(ROWS, ids, k=2, **options)


@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_traced_functions_see_them(storage):
    layer = make(names(8), capacity=12, id_width=5, storage=storage)
    model = keras.Sequential([keras.Input([DIM]), layer])
    graph = tf.function(lambda x: model(x), autograph=False)
    model.predict(QUERY, verbose=0)
    graph(QUERY)
    for count in (12, 3, 5):
        rows = RNG.normal(size=(count, DIM)).astype("float32")
        layer.update_candidates(rows, names(count, 100))
        best = np.argsort(-rows.sum(axis=1))[:2]
        wanted = [f"n{100 + i}".encode() for i in best]
        for found in (graph(QUERY), model.predict(QUERY, verbose=0)):
            assert list(np.asarray(found[1])[0]) == wanted
        assert int(layer.num_candidates) == count


def test_they_may_come_later():
    layer = layers.Retrieval(k=2)
    with pytest.raises(ValueError, match="must have candidates before"):
        layer(QUERY)
    layer.update_candidates(ROWS, np.arange(8))
    assert int(layer(QUERY)[1][0, 0]) == np.argmax(ROWS.sum(axis=1))


def test_a_row_less_than_zero_is_found_before_room_that_is_empty():
    layer = make(capacity=20)
    layer.update_candidates(-np.ones((2, DIM)))
    scores, index = layer(QUERY)
    np.testing.assert_array_equal(scores, [[-3, -3]])
    np.testing.assert_array_equal(index, [[0, 1]])


def changed(rows=ROWS, at=None, to=None):
    rows = np.array(rows)
    if at is not None:
        rows[at] = to
    return rows


@pytest.mark.parametrize(
    ("ids", "rows", "others", "message"),
    [
        (None, changed(at=(3, 1), to=np.nan), None, r"finite.*nan at \(3, 1\)"),
        (None, changed(at=(0, 2), to=np.inf), None, r"finite.*inf at \(0, 2\)"),
        (None, ROWS.astype("float64") * 1e300, None, "finite in float32"),
        (None, ROWS[0], None, r"\[candidates, dim\].*shape=\(3,\)"),
        (None, ROWS[:0], None, "neither 0"),
        (None, ROWS.astype(str), None, "must be numbers"),
        (None, ROWS[:1], None, "at least k=2 candidates.*Received: 1"),
        (None, np.ones((9, DIM)), None, "at most 8. Received: 9"),
        (None, ROWS[:, :2], None, r"size 3.*shape=\(8, 2\)"),
        (None, ROWS, np.arange(8), "kind 'row'.*'integer'"),
        (names(8), ROWS, None, "kind 'string'.*'row'"),
        (names(8), ROWS, np.arange(8), "kind 'string'.*'integer'"),
        (names(8), ROWS, names(7), r"each of the 8.*\(7,\)"),
        (names(8), ROWS, [*names(7), "n2"], "b'n2' at 2 and at 7"),
        (names(8), ROWS, [*names(7), "long"], "id_width=2.*4 bytes"),
        (names(8), ROWS, [*names(7), ""], "must not be empty.*'' at 7"),
        (names(8), ROWS, [*names(7), "\0a"], "zero byte.* at 7"),
        (names(8), ROWS, np.array([*names(7), 7], object), "7 at 7"),
        (names(8), ROWS, np.ones(8) / 2, "integers, or strings.*0.5 at 0"),
        (range(8), ROWS, [5, 1, 2, 3, 4, 5, 6, 7], "5 at 0 and at 5"),
        (range(8), ROWS, [0, 1, 2, 3, -1, 5, 6, 7], "-1 at 4"),
        (
            range(8),
            ROWS,
            np.array([0, 1, 2, 3, 4, 5, 6, 2**63], "uint64"),
            "64 bits.*9223372036854775808",
        ),
    ],
)
def test_nothing_is_changed_by_what_is_refused(ids, rows, others, message):
    ids = None if ids is None else list(ids)
    layer = make(ids)
    before = [np.array(weight) for weight in layer.weights]
    with pytest.raises(ValueError, match=message):
        layer.update_candidates(rows, others)
    for old, weight in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(old, weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"k": 9}, "at least k=9 candidates.*Received: 8"),
        ({"capacity": 1}, "`capacity` must be at least k"),
        ({"capacity": 7}, "at most 7. Received: 8"),
        ({"dim": 4}, "size 4"),
        ({"recall_target": 0.0}, "recall_target=0.0"),
        ({"recall_target": 1.5}, "recall_target=1.5"),
        ({"storage": "int4"}, "storage='int4'"),
        ({"id_kind": "float"}, "id_kind='float'"),
        ({"id_kind": "string", "id_width": 3}, "kind 'string'.*'row'"),
        ({"id_kind": "string"}, "`id_width` must be given"),
        (
            {"candidate_embeddings": None, "candidate_ids": [1]},
            "`candidate_ids` must be given with",
        ),
    ],
)
def test_arguments_out_of_range(options, message):
    options = {"candidate_embeddings": ROWS, "k": 2, **options}
    with pytest.raises(ValueError, match=message):
        layers.Retrieval(**options)


def test_queries_of_another_size():
    layer = make()
    for _ in range(2):  # before it is built, and after
        with pytest.raises(
            ValueError, match=r"size of candidates, 3.*\(1, 4\)"
        ):
            layer(np.ones((1, 4)))
        layer(QUERY)


def test_ids_of_any_kind_of_array():
    for ids in (
        np.array(names(8), "S"),
        np.array(names(8)),
        tf.constant(names(8)),
        [name.encode() for name in names(8)],
    ):
        best = make(ids)(QUERY)[1]
        assert best[0, 0] == f"n{np.argmax(ROWS.sum(axis=1))}".encode()
    best = make(tf.range(8, 16))(QUERY)[1]
    assert best[0, 0] == 8 + np.argmax(ROWS.sum(axis=1))
