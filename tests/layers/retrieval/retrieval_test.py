"""What is found, saved and served."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe import layers
from tests.layers.layer_test_case import run_layer_test
from tests.reference.partial_reduce import top_k

RNG = np.random.default_rng(8)
COUNT, DIM, K = 60, 6, 5
ROWS = RNG.normal(size=(COUNT, DIM)).astype("float32")
QUERIES = RNG.normal(size=(4, DIM)).astype("float32")
STRINGS = [f"wörd {i}" for i in RNG.permutation(COUNT)]
INTEGERS = RNG.choice(2**40, COUNT, replace=False)
NAMES = {"row": None, "integer": INTEGERS, "string": STRINGS}


def make(kind="row", **options):
    return layers.Retrieval(ROWS, NAMES[kind], k=K, **options)


def model_of(layer):
    return keras.Sequential([keras.Input([DIM]), layer])


def wanted(kind="row", rows=ROWS, k=K):
    """Scores and names by sorting, a query at a time."""
    found = [top_k(query @ rows.T, k) for query in QUERIES]
    scores, index = (np.stack(part) for part in zip(*found, strict=True))
    names = NAMES[kind]
    return scores, index if names is None else np.asarray(names)[index]


def text(names):
    return np.vectorize(bytes.decode)(np.asarray(names))


def check(answer, expected, tolerance=1e-5):
    scores, names = (np.asarray(each) for each in answer)
    np.testing.assert_allclose(scores, expected[0], atol=tolerance)
    names = text(names) if names.dtype.kind in "OS" else names
    np.testing.assert_array_equal(names, expected[1])


@pytest.mark.parametrize("kind", NAMES)
def test_is_found_saved_and_served(kind, tmp_path):
    """A reloaded model and a SavedModel answer as the model did."""
    model = model_of(make(kind))
    check(model(QUERIES), wanted(kind))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for before, after in zip(model(QUERIES), loaded(QUERIES), strict=True):
        np.testing.assert_array_equal(before, after)
    # With candidates in one place alone.
    assert sum(weight.shape == ROWS.shape for weight in model.weights) == 1
    assert (tmp_path / "model.keras").stat().st_size < 3 * ROWS.nbytes + 20_000
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    check(served.serve(QUERIES), wanted(kind))
    check(model.predict(QUERIES, verbose=0), wanted(kind))


def test_a_saved_model_needs_no_operation_of_ours(tmp_path):
    """Nor a table to be filled before it answers."""
    model_of(make("string", recall_target=0.9)).export(
        tmp_path / "served", verbose=False
    )
    graph = tf.saved_model.load(str(tmp_path / "served")).signatures[
        "serving_default"
    ]
    kinds = {node.op for node in graph.graph.as_graph_def().node}
    for function in graph.graph.as_graph_def().library.function:
        kinds |= {node.op for node in function.node_def}
    assert "ReduceJoin" in kinds
    assert not [kind for kind in kinds if "Table" in kind or "Py" in kind]


def test_weights_alone_bring_the_candidates(tmp_path):
    model_of(make("string")).save_weights(tmp_path / "a.weights.h5")
    width = max(len(name.encode()) for name in STRINGS)
    other = layers.Retrieval(
        k=K, capacity=COUNT, dim=DIM, id_kind="string", id_width=width
    )
    fresh = model_of(other)
    with pytest.raises(ValueError, match="must have candidates: load"):
        fresh(QUERIES)
    fresh.load_weights(tmp_path / "a.weights.h5")
    check(fresh(QUERIES), wanted("string"))


@pytest.mark.parametrize(
    ("storage", "rounding"), [("bfloat16", 2**-8), ("int8", 1 / 254)]
)
def test_rows_in_fewer_bytes(storage, rounding, tmp_path):
    layer = make(storage=storage)
    model = model_of(layer)
    scores = np.sort(QUERIES @ ROWS.T, axis=1)[:, ::-1][:, :K]
    if storage == "int8":
        assert layer.candidates.dtype == "int8"
        kept = np.asarray(layer.candidates) * np.asarray(layer.scales)[:, None]
    else:
        kept = np.asarray(tf.cast(layer.candidates.value, "float32"))
    error = np.abs(kept - ROWS)
    size = np.abs(ROWS).max(axis=1, keepdims=True)
    assert (error <= rounding * size * 1.0001).all()
    check(model(QUERIES), wanted(rows=kept))
    # Each of DIM products is off by at most that.
    most = rounding * size.max() * np.abs(QUERIES).sum(axis=1, keepdims=True)
    assert (np.abs(np.asarray(model(QUERIES)[0]) - scores) <= most).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for before, after in zip(model(QUERIES), loaded(QUERIES), strict=True):
        np.testing.assert_array_equal(before, after)


def test_rows_of_zeros_and_of_any_length():
    rows = ROWS * np.geomspace(1e-30, 1e30, COUNT, dtype="float32")[:, None]
    rows[3] = 0.0
    layer = layers.Retrieval(rows, k=COUNT, storage="int8")
    scores, index = layer(QUERIES)
    exact = np.take_along_axis(QUERIES @ rows.T, np.asarray(index), axis=1)
    size = np.abs(rows).max(axis=1)[np.asarray(index)]
    off = np.abs(np.asarray(scores) - exact)
    assert (off <= size * np.abs(QUERIES).sum(1, keepdims=True) / 250).all()


@pytest.mark.parametrize("kind", NAMES)
def test_an_approximate_search_has_its_recall(kind):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(3000, DIM)).astype("float32")
    names = {
        "row": None,
        "integer": np.arange(3000) + 7,
        "string": [f"{i}" for i in range(3000)],
    }[kind]
    exact = layers.Retrieval(rows, names, k=20)
    layer = layers.Retrieval(rows, names, k=20, recall_target=0.8)
    assert layer.bins.num_bins * layer.bins.num_per_bin < 100
    assert exact.expected_recall == 1.0 and exact.bins is None
    queries = rng.normal(size=(200, DIM)).astype("float32")
    found = [np.asarray(each(queries)[1]) for each in (exact, layer)]
    pairs = zip(*found, strict=True)
    recall = np.mean([np.isin(one, other).mean() for one, other in pairs])
    assert 0.8 <= layer.expected_recall < 0.9
    assert recall == pytest.approx(layer.expected_recall, abs=0.02)


def test_the_order_of_candidates_costs_no_recall():
    """All near ones a number of bins apart: without mixing, in one bin."""
    rows = np.zeros((4000, DIM), "float32")
    bins = layers.Retrieval(
        k=20, recall_target=0.8, capacity=4000, dim=DIM, id_kind="row"
    ).bins
    near = np.arange(20) * bins.num_bins
    rows[near, 0] = 1.0 + np.arange(20)
    layer = layers.Retrieval(rows, k=20, recall_target=0.8)
    _, index = layer(np.eye(1, DIM))
    assert np.isin(near, index).mean() > 0.6


@pytest.mark.parametrize("kind", ["row", "string"])
def test_a_request_says_how_many(kind):
    layer = make(kind)
    scores, names = layer(QUERIES)
    for k in (1, 3, np.int64(K), tf.constant(2)):
        some = layer(QUERIES, k=k)
        np.testing.assert_array_equal(some[0], scores[:, : int(k)])
        np.testing.assert_array_equal(some[1], names[:, : int(k)])
    graph = tf.function(lambda x, k: layer(x, k=k), autograph=False)
    for k in (2, K, K + 3, 0):
        assert graph(QUERIES, tf.constant(k))[1].shape == (4, min(k, K))
    for k in (0, K + 1, [1, 2]):
        with pytest.raises(ValueError, match="`k` must be one integer from 1"):
            layer(QUERIES, k=k if isinstance(k, int) else tf.constant(k))


@pytest.mark.parametrize("kind", NAMES)
def test_a_query_that_is_not_finite_is_answered_as_such(kind):
    layer = make(kind)
    queries = QUERIES.copy()
    queries[1, 2], queries[2, 0] = np.nan, np.inf
    scores, names = layer(queries)
    assert np.isnan(scores[1:3]).all()
    nothing = b"" if kind == "string" else -1
    assert (np.asarray(names)[1:3] == nothing).all()
    for part, other in zip(layer(QUERIES), (scores, names), strict=True):
        np.testing.assert_array_equal(part[::3], other[::3])


def test_equal_scores_come_in_the_order_of_the_candidates():
    rows = np.ones((30, DIM))
    rows[[4, 9]] = 2.0
    _, index = layers.Retrieval(rows, k=5)(np.ones((1, DIM)))
    np.testing.assert_array_equal(index, [[4, 9, 0, 1, 2]])


def test_xla_finds_the_same():
    for kind, options in (
        ("row", {}),
        ("integer", {"storage": "int8", "recall_target": 0.9}),
    ):
        layer = make(kind, **options)
        compiled = tf.function(layer, jit_compile=True, autograph=False)
        scores, names = compiled(QUERIES)
        np.testing.assert_allclose(scores, layer(QUERIES)[0], atol=1e-5)
        np.testing.assert_array_equal(names, layer(QUERIES)[1])
    assert not make("string").supports_jit


@pytest.mark.parametrize("kind", NAMES)
def test_layer(kind):
    run_layer_test(
        layers.Retrieval,
        {
            "candidate_embeddings": ROWS,
            "candidate_ids": NAMES[kind],
            "k": K,
            "capacity": COUNT + 4,
        },
        input_shape=(2, 3, DIM),
        expected_num_trainable_weights=0,
        supports_masking=True,
        # Nothing is trained, and strings have no loss.
        run_training_check=False,
    )


def test_masks_and_axes_go_through():
    layer = make(return_scores=False)
    inputs = keras.Input((3, DIM))
    masked = keras.layers.Masking()(inputs)
    model = keras.Model(inputs, layer(masked))
    assert model.output.shape == (None, 3, K)
    assert model.output.dtype == "int32"
    x = np.stack([QUERIES[:3], QUERIES[1:]])
    x[0, 2] = 0.0
    mask = layer.compute_mask(None, np.any(x, axis=-1))
    np.testing.assert_array_equal(mask, [[1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(model(x)[1, 2], layer(QUERIES[3:])[0])


def test_half_precision_ranks_in_float32():
    """Of 2048 and 2049 float16 knows the first alone."""
    rows = np.zeros((9, 2))
    rows[:, 0] = 2048 + np.arange(9)
    layer = layers.Retrieval(rows, k=3, dtype="mixed_float16")
    scores, index = layer(np.ones((1, 2)))
    assert scores.dtype == "float16"
    np.testing.assert_array_equal(index, [[8, 7, 6]])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_queries_are_read_in_float32_under_every_policy(policy):
    """Float16 has no 1e5, and neither half precision has all of QUERIES."""
    layer = layers.Retrieval(ROWS, k=3, dtype=policy)
    for queries in (QUERIES, np.full_like(QUERIES, 1e5)):
        scores, found = layer(queries)
        wanted, rows = layer.find(queries, layer.k)
        np.testing.assert_array_equal(found, layer.names_of(rows))
        np.testing.assert_array_equal(scores, ops.cast(wanted, scores.dtype))
        assert (np.asarray(found) >= 0).all()


def test_queries_learn():
    query = tf.Variable(QUERIES)
    layer = make()
    with tf.GradientTape() as tape:
        scores, index = layer(query)
        total = tf.reduce_sum(scores)
    np.testing.assert_allclose(
        tape.gradient(total, query),
        ROWS[np.asarray(index)].sum(axis=1),
        rtol=1e-5,
    )
