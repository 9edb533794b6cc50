"""An index of faiss: what is found, kept in a file, tuned and refused."""

import functools
import sys
import threading

import numpy as np
import pytest

from keras_moe import layers
from keras_moe import retrieval
from keras_moe.retrieval._exact_search import exact_search
from keras_moe.retrieval._exact_search import recall_at_k

RNG = np.random.default_rng(8)
COUNT, DIM, K = 900, 8, 5
CENTRES = 2 * RNG.normal(size=(20, DIM))
NAMES = {
    "row": None,
    "integer": RNG.choice(2**40, COUNT, replace=False),
    "string": [f"wörd {i}" for i in RNG.permutation(COUNT)],
}
SOME = {"lists_to_search": 3, "candidates_to_rescore": 40}
ALL = {"lists_to_search": 30, "candidates_to_rescore": COUNT}


def sample(count):
    near = CENTRES[RNG.integers(len(CENTRES), size=count)]
    return (near + RNG.normal(size=(count, DIM)) / 2).astype("float32")


ROWS, QUERIES = sample(COUNT), sample(600)


def make(kind="row", **options):
    return retrieval.FaissIndex(ROWS, NAMES[kind], k=K, **options)


@functools.cache
def made(kind):
    return make(kind)


@pytest.fixture
def index():
    index = made("row")
    index.settings = SOME
    return index


@pytest.mark.parametrize("kind", NAMES)
def test_all_lists_find_what_an_exact_search_finds(kind):
    index = made(kind)
    index.settings = ALL
    scores, names = index(QUERIES)
    wanted = layers.Retrieval(ROWS, NAMES[kind], k=K)(QUERIES)
    np.testing.assert_allclose(scores, wanted[0], rtol=1e-5)
    np.testing.assert_array_equal(names, wanted[1])
    assert index(QUERIES, k=2)[1].shape == (600, 2)


@pytest.mark.parametrize("kind", NAMES)
def test_its_file_brings_all_of_it(kind, tmp_path):
    index = made(kind)
    index.settings = SOME
    index.save(tmp_path / "index.npz")
    loaded = retrieval.FaissIndex.load(tmp_path / "index.npz")
    assert loaded.settings == index.settings and loaded.k == K
    assert loaded.fingerprint == index.fingerprint
    for one, other in zip(index(QUERIES), loaded(QUERIES), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", NAMES)
def test_a_query_that_is_not_finite_is_answered_as_such(kind):
    index = made(kind)
    queries = QUERIES[:5].copy()
    queries[1, 2], queries[2, 0] = np.nan, np.inf
    scores, names = index(queries)
    assert np.isnan(scores[1:3]).all()
    assert (names[1:3] == (b"" if kind == "string" else -1)).all()
    for one, other in zip(index(QUERIES[:5]), (scores, names), strict=True):
        np.testing.assert_array_equal(one[[0, 3, 4]], other[[0, 3, 4]])


def test_lists_of_few_fill_up_with_nothing():
    far = ROWS.copy()
    far[:3] = 50.0
    index = retrieval.FaissIndex(far, [f"n{i}" for i in range(COUNT)], k=K)
    index.settings = {"lists_to_search": 1, "candidates_to_rescore": K}
    scores, names = index(np.ones((1, DIM)))
    assert set(names[0, :3]) == {b"n0", b"n1", b"n2"}
    np.testing.assert_array_equal(scores[0, 3:], -np.inf)
    assert (names[0, 3:] == b"").all()


def test_predictions_hold_for_the_queries_they_are_made_from(index):
    """But for the eight bits to which faiss rounds what it adds up."""
    tuned = retrieval.IndexTuner(index).fit(QUERIES, budget=20_000)
    neighbors = exact_search(ROWS, QUERIES, K)
    assert len(tuned.frontier) > 20
    for point in tuned.frontier[::9]:
        _, found = index.search(QUERIES, K, point.settings)
        recall = recall_at_k(found, neighbors, ROWS, QUERIES).mean()
        assert recall == pytest.approx(point.predicted_recall, abs=0.04)


def test_it_is_tuned_and_certified(index, tmp_path):
    tuned = retrieval.IndexTuner(index).fit(QUERIES, target_recall=0.9)
    assert tuned.measured_recall > 0.9
    assert index.settings == tuned.settings
    tuned.save(tmp_path / "tuned.json")
    other = retrieval.FaissIndex(ROWS[::-1].copy(), k=K)
    with pytest.raises(ValueError, match="the one that was tuned"):
        retrieval.TunedIndex.load(tmp_path / "tuned.json", other)
    retrieval.TunedIndex.load(tmp_path / "tuned.json", index)


def test_threads_search_with_settings_of_their_own(index):
    wanted = {
        lists: index.search(QUERIES, K, {"lists_to_search": lists})
        for lists in (1, 30)
    }
    wrong = []

    def search(lists):
        for _ in range(20):
            found = index.search(QUERIES, K, {"lists_to_search": lists})
            if not np.array_equal(found[1], wanted[lists][1]):
                wrong.append(lists)

    threads = [threading.Thread(target=search, args=(n,)) for n in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not np.array_equal(wanted[1][1], wanted[30][1])


def test_the_same_seed_makes_the_same_index(index):
    assert make().fingerprint == index.fingerprint
    assert made("integer").fingerprint != index.fingerprint


def changed(value):
    rows = ROWS.copy()
    rows[3, 1] = value
    return rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"num_lists": 0}, "num_lists=0"),
        ({"num_lists": 901}, "at most the 900 candidates.*num_lists=901"),
        ({"num_codes": 3}, "divisor of their size 8.*num_codes=3"),
        ({"seed": -1}, "seed=-1"),
        ({"rows": ROWS[:63]}, "and 64. Received: 63"),
        ({"k": 901}, "at least k=901.*Received: 900"),
        ({"rows": changed(np.nan)}, r"finite.*nan at \(3, 1\)"),
        ({"names": [7] * COUNT}, "7 at 0 and at 1"),
    ],
)
def test_arguments_out_of_range(options, message):
    options = {"rows": ROWS, "names": None, **options}
    rows, names = options.pop("rows"), options.pop("names")
    with pytest.raises(ValueError, match=message):
        retrieval.FaissIndex(rows, names, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index(QUERIES[:, :3]), r"\[queries, 8\].*\(600, 3\)"),
        (lambda index: index(QUERIES[0]), r"\[queries, 8\].*\(8,\)"),
        (lambda index: index(QUERIES, k=0), "k=0"),
        (lambda index: index.search(QUERIES, 5, {"lists": 3}), "one for each"),
        (
            lambda index: index.search(QUERIES, 50, {"lists_to_search": 31}),
            "from 1.* to 30.*lists_to_search=31",
        ),
        (
            lambda index: index.search(QUERIES, 99),
            r"from 99.*candidates_to_rescore=\d\d\.",
        ),
    ],
)
def test_searches_that_are_none(index, call, message):
    with pytest.raises(ValueError, match=message):
        call(index)


def test_without_faiss_it_says_where_that_can_be_had(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)  # as if not installed
    with pytest.raises(
        ModuleNotFoundError,
        match=r"FaissIndex` needs faiss. .*`pip install keras-moe\[ann\]`",
    ):
        make()
