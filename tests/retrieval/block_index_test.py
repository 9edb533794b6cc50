"""An index in the graph: what is found, saved, served and refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe import layers
from keras_moe import retrieval
from tests.layers.layer_test_case import run_layer_test

RNG = np.random.default_rng(8)
COUNT, DIM, K = 400, 6, 5
CENTRES = RNG.normal(size=(12, DIM))
ROWS = CENTRES[RNG.integers(12, size=COUNT)] + RNG.normal(size=(COUNT, DIM)) / 4
ROWS = ROWS.astype("float32")
QUERIES = RNG.normal(size=(7, DIM)).astype("float32")
NAMES = {
    "row": None,
    "integer": RNG.choice(2**40, COUNT, replace=False),
    "string": [f"wörd {i}" for i in RNG.permutation(COUNT)],
}
SMALL = {"block_size": 16, "blocks_to_search": 4, "k": K}


def make(kind="row", rows=ROWS, **options):
    names = NAMES[kind] if rows is ROWS else None
    return retrieval.BlockIndex(rows, names, **{**SMALL, **options})


def model_of(layer):
    return keras.Sequential([keras.Input([DIM]), layer])


def block_sizes(index):
    return np.sum(np.asarray(index.block_rows) >= 0, axis=1)


def slow_search(index, query, blocks):
    """Scores and rows of `vectors`, block by block and row by row."""
    rows = index.vectors()
    sizes = [int(size) for size in block_sizes(index) if size]
    ends = np.cumsum(sizes)
    order = sorted(
        range(len(sizes)),
        key=lambda b: -float(np.asarray(index.centres)[b] @ query),
    )
    found = [
        (float(rows[row] @ query), row)
        for block in order[:blocks]
        for row in range(ends[block] - sizes[block], ends[block])
    ]
    return [list(each) for each in zip(*sorted(found)[::-1][:K], strict=True)]


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_the_best_of_the_nearest_blocks_are_found(storage):
    index = make(storage=storage)
    for blocks in (2, 4, 11):
        scores, rows = index.search(QUERIES, K, {"blocks_to_search": blocks})
        for query, own_scores, own_rows in zip(
            QUERIES, scores, rows, strict=True
        ):
            wanted_scores, wanted_rows = slow_search(index, query, blocks)
            np.testing.assert_allclose(own_scores, wanted_scores, atol=1e-5)
            np.testing.assert_array_equal(own_rows, wanted_rows)


@pytest.mark.parametrize("kind", NAMES)
def test_all_blocks_find_what_an_exact_search_finds(kind):
    index = make(kind, blocks_to_search=1000)
    exact = layers.Retrieval(ROWS, NAMES[kind], k=K)
    for part, other in zip(index(QUERIES), exact(QUERIES), strict=True):
        if part.dtype == tf.float32:
            np.testing.assert_allclose(part, other, atol=1e-5)
        else:
            np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("kind", NAMES)
def test_is_saved_with_its_setting_and_served(kind, tmp_path):
    index = make(kind)
    model = model_of(index)
    model.predict(QUERIES, verbose=0)
    index.settings = {"blocks_to_search": 7}
    wanted = [np.asarray(part) for part in index(QUERIES)]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    assert loaded.layers[-1].settings == {"blocks_to_search": 7}
    assert loaded.layers[-1].fingerprint == index.fingerprint
    for answer in (loaded(QUERIES), served.serve(QUERIES)):
        for part, other in zip(wanted, answer, strict=True):
            np.testing.assert_array_equal(part, other)
    kinds = {
        node.op
        for function in served.signatures["serving_default"]
        .graph.as_graph_def()
        .library.function
        for node in function.node_def
    }
    assert not [op for op in kinds if "Table" in op or "Py" in op]


def test_the_fingerprint_is_of_candidates_and_names():
    prints = [
        make().fingerprint,
        make(blocks_to_search=9, name="another").fingerprint,
        make("integer").fingerprint,
        make(rows=ROWS[::-1].copy()).fingerprint,
        make(storage="int8").fingerprint,
    ]
    assert prints[0] == prints[1] and len(set(prints)) == 4


@pytest.mark.parametrize("kind", NAMES)
def test_layer(kind):
    run_layer_test(
        retrieval.BlockIndex,
        {
            "candidate_embeddings": ROWS,
            "candidate_ids": NAMES[kind],
            "capacity": COUNT + 4,
            **SMALL,
        },
        input_shape=(2, 3, DIM),
        expected_num_trainable_weights=0,
        supports_masking=True,
        # Nothing is trained, and strings have no loss.
        run_training_check=False,
    )


def test_xla_finds_the_same():
    for options in ({}, {"storage": "int8"}):
        index = make("integer", **options)
        compiled = tf.function(index, jit_compile=True, autograph=False)
        scores, names = compiled(QUERIES)
        np.testing.assert_allclose(scores, index(QUERIES)[0], atol=1e-5)
        np.testing.assert_array_equal(names, index(QUERIES)[1])
    assert not make("string").supports_jit


@pytest.mark.parametrize("kind", NAMES)
def test_a_query_that_is_not_finite_is_answered_as_such(kind):
    index = make(kind)
    queries = QUERIES.copy()
    queries[1, 2], queries[2, 0], queries[3] = np.nan, np.inf, -np.inf
    scores, names = index(queries)
    assert np.isnan(scores[1:4]).all()
    nothing = b"" if kind == "string" else -1
    assert (np.asarray(names)[1:4] == nothing).all()
    for part, other in zip(index(QUERIES), (scores, names), strict=True):
        np.testing.assert_array_equal(part[4:], other[4:])


def test_a_query_whose_scores_overflow_is_answered_as_one_not_finite():
    """Infinity less infinity is NaN, among scores that are none."""
    index = make()
    queries = np.where(QUERIES > 0, 3e38, -3e38).astype("float32")
    queries[0] = QUERIES[0]
    scores, found = index(queries)
    assert np.isnan(scores[1:]).all() and (np.asarray(found)[1:] == -1).all()
    np.testing.assert_array_equal(found[:1], index(QUERIES[:1])[1])


def test_half_precision_ranks_in_float32():
    """Of 2048 and 2049 float16 knows the first alone."""
    rows = np.zeros((90, 2))
    rows[:, 0] = 2048 + np.arange(90)
    index = make(rows=rows, dtype="mixed_float16", blocks_to_search=9)
    scores, found = index(np.ones((1, 2)))
    assert scores.dtype == "float16"
    np.testing.assert_array_equal(found, [[89, 88, 87, 86, 85]])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_queries_are_read_in_float32_under_every_policy(policy):
    """Float16 has no 1e5, and neither half precision has all of QUERIES."""
    layer = make(dtype=policy)
    for queries in (QUERIES, np.full_like(QUERIES, 1e5)):
        scores, found = layer(queries)
        wanted, rows = layer.find(queries, layer.k)
        np.testing.assert_array_equal(found, layer.names_of(rows))
        np.testing.assert_array_equal(scores, ops.cast(wanted, scores.dtype))
        assert (np.asarray(found) >= 0).all()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_numbers_of_any_size(scale):
    with np.errstate(all="raise"):
        index = make(rows=ROWS * np.float32(scale))
    plain = make(rows=ROWS)
    np.testing.assert_array_equal(index(QUERIES)[1], plain(QUERIES)[1])


@pytest.mark.parametrize("rows", [np.ones((300, 3)), np.zeros((300, 3))])
def test_equal_candidates_fill_blocks(rows):
    index = make(rows=rows, blocks_to_search=1)
    assert set(block_sizes(index)) <= {0, 15, 16}
    scores, found = index(np.ones((2, 3)))
    np.testing.assert_array_equal(scores, np.full((2, K), rows[0].sum()))
    assert len(set(np.asarray(found)[0])) == K


def test_an_index_of_few_candidates_is_exact():
    index = retrieval.BlockIndex(ROWS[:9], k=9)
    np.testing.assert_array_equal(np.sort(index(QUERIES)[1])[0], np.arange(9))


def test_the_same_seed_makes_the_same_index():
    one, other = make(seed=3), make(seed=3)
    assert one.fingerprint == other.fingerprint != make(seed=4).fingerprint


def test_traced_functions_see_other_candidates():
    index = make("string", capacity=COUNT + 40, id_width=12)
    graph = tf.function(lambda x: index(x), autograph=False)
    graph(QUERIES)
    for count in (COUNT + 40, 50, 130):
        rows = RNG.normal(size=(count, DIM)).astype("float32")
        index.update_candidates(rows, [f"n{i}" for i in range(count)])
        scores, names = graph(rows[:40] * 9)
        number = [int(name[1:]) for name in np.asarray(names)[:, 0]]
        best = np.sum(rows[number] * rows[:40] * 9, axis=1)
        np.testing.assert_allclose(scores[:, 0], best, rtol=1e-5)
        assert len(index.vectors()) == count


def test_weights_alone_bring_the_index(tmp_path):
    model_of(make("string")).save_weights(tmp_path / "a.weights.h5")
    width = max(len(name.encode()) for name in NAMES["string"])
    sizes = {"capacity": COUNT, "dim": DIM, "id_kind": "string"}
    other = retrieval.BlockIndex(**sizes, id_width=width, **SMALL)
    fresh = model_of(other)
    with pytest.raises(ValueError, match="must have candidates: load"):
        fresh(QUERIES)
    fresh.load_weights(tmp_path / "a.weights.h5")
    for part, own in zip(make("string")(QUERIES), fresh(QUERIES), strict=True):
        np.testing.assert_array_equal(part, own)


def test_levels_say_what_is_read():
    index = make(storage="int8", k=20)
    (level,) = index.levels(20)
    sizes = block_sizes(index)
    assert level.most == np.count_nonzero(sizes)
    # A row, its scale and its number.
    assert level.bytes_each == 16 * (DIM + 4 + 4)
    # Whichever blocks they are, so many hold 20 rows, and one less may not.
    smallest = np.sort(sizes[sizes > 0])
    assert smallest[: level.least].sum() >= 20
    assert smallest[: level.least - 1].sum() < 20
    assert retrieval.bytes_per_query([level], {level.name: 3}) == (
        len(sizes) * (DIM + 1) * 4 + 3 * level.bytes_each
    )


def test_ranks_say_when_a_row_is_found():
    index = make()
    rows = RNG.integers(COUNT, size=(len(QUERIES), 3))
    (ranks,) = index.ranks(QUERIES, rows, np.array([1]))
    for blocks in (1, 3, 9):
        reached = np.asarray(index.find(QUERIES, COUNT, blocks)[1])
        found = [np.isin(*each) for each in zip(rows, reached, strict=True)]
        np.testing.assert_array_equal(ranks <= blocks, found)


def changed(value, rows=ROWS):
    rows = rows.copy()
    rows[3, 1] = value
    return rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"blocks_to_search": 0}, "blocks_to_search=0"),
        ({"block_size": 1.5}, "block_size=1.5"),
        ({"num_leaves": -1}, "num_leaves=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"storage": "int4"}, "storage='int4'"),
        ({"k": 401}, "at least k=401 candidates.*Received: 400"),
        ({"k": 90}, "`blocks_to_search` must be at least .* k=90"),
        ({"rows": changed(np.nan)}, r"finite.*nan at \(3, 1\)"),
        ({"names": [7] * COUNT}, "7 at 0 and at 1"),
    ],
)
def test_arguments_out_of_range(options, message):
    options = {"rows": ROWS, "names": None, **SMALL, **options}
    rows, names = options.pop("rows"), options.pop("names")
    with pytest.raises(ValueError, match=message):
        retrieval.BlockIndex(rows, names, **options)


def test_nothing_is_changed_by_what_is_refused():
    index = make()
    before = index.fingerprint
    for rows, message in (
        (changed(np.inf), "finite"),
        (ROWS[:4], "at least k=5"),
        (ROWS[:, :2], "size 6"),
    ):
        with pytest.raises(ValueError, match=message):
            index.update_candidates(rows)
    assert index.fingerprint == before
    with pytest.raises(ValueError, match=r"size of candidates, 6.*\(1, 4\)"):
        index(np.ones((1, 4)))


def test_all_blocks_are_searched_where_there_are_few():
    index = retrieval.BlockIndex(ROWS, k=K, block_size=16)
    assert index.settings == {"blocks_to_search": 16}
    for rows in (ROWS[:100], ROWS[:9], ROWS):
        fresh = retrieval.BlockIndex(rows, k=K, block_size=16)
        index.update_candidates(rows)
        for each in (index, fresh):
            (level,) = each.levels(K)
            blocks = each.settings["blocks_to_search"]
            assert blocks == min(16, level.most)
            scores, _ = each.search(QUERIES, K)
            np.testing.assert_array_equal(scores, each(QUERIES)[0])
            if level.most <= 16:
                best = np.sort(QUERIES @ rows.T, axis=1)[:, :-6:-1]
                np.testing.assert_allclose(scores, best, rtol=1e-5, atol=1e-6)
    fresh.settings = fresh.settings
    few = retrieval.BlockIndex(ROWS[:9], k=K, block_size=16)
    few.settings = few.settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "one for each of .'blocks_to_search'"),
        ({"blocks": 3}, "one for each of .'blocks_to_search'"),
        ({"blocks_to_search": 0}, "from 1.* to .*blocks_to_search=0"),
        ({"blocks_to_search": 4000}, "blocks_to_search=4000"),
        ({"blocks_to_search": 2.5}, "blocks_to_search=2.5"),
        ({"blocks_to_search": True}, "blocks_to_search=True"),
    ],
)
def test_settings_that_are_none(settings, message):
    index = make()
    with pytest.raises(ValueError, match=message):
        index.settings = settings
    assert index.settings == {"blocks_to_search": 4}
