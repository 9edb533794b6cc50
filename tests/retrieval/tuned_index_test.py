"""The file of what was tuned: read back, or refused."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_moe import retrieval
from keras_moe.retrieval._confirmation import policy_of

RNG = np.random.default_rng(6)
ROWS = RNG.normal(size=(900, 5)).astype("float32")
QUERIES = RNG.normal(size=(600, 5)).astype("float32")


@pytest.fixture(scope="module")
def tuned():
    index = retrieval.BlockIndex(ROWS, k=4, block_size=16)
    return retrieval.IndexTuner(index).fit(QUERIES, target_recall=0.9)


@pytest.fixture
def path(tuned, tmp_path):
    tuned.save(tmp_path / "tuned.json")
    return tmp_path / "tuned.json"


def test_all_of_it_is_read_back(tuned, path):
    fresh = retrieval.BlockIndex(ROWS, k=4, block_size=16)
    loaded = retrieval.TunedIndex.load(path, fresh)
    assert loaded.index is fresh and fresh.settings == tuned.settings
    assert dataclasses.replace(loaded, index=tuned.index) == tuned
    for one, other in zip(
        tuned.search(QUERIES, 2), loaded.search(QUERIES, 2), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_it_goes_with_a_saved_model(tuned, path, tmp_path):
    keras.Sequential([keras.Input([5]), tuned.index]).save(
        tmp_path / "model.keras"
    )
    model = keras.models.load_model(tmp_path / "model.keras")
    loaded = retrieval.TunedIndex.load(path, model.layers[-1])
    assert loaded.certificate == tuned.certificate


def test_an_index_of_other_rows_is_refused(path):
    other = retrieval.BlockIndex(ROWS[::-1].copy(), k=4, block_size=16)
    before = other.settings
    with pytest.raises(ValueError, match="the one that was tuned.*fingerprint"):
        retrieval.TunedIndex.load(path, other)
    assert other.settings == before


def change(document, *keys, to):
    part = document
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = to


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["format_version"], 2),
        (["k"], 5),
        (["more"], 1),
        (["frontier"], []),
        (["frontier", 0], 3),
        (["frontier", 0, "predicted_recall"], "x"),
        (["frontier", 0, "predicted_recall"], 2.0),
        (["frontier", 0, "predicted_recall"], None),
        (["frontier", 0, "bytes_per_query"], "x"),
        (["frontier", 0, "bytes_per_query"], 1.0),
        (["frontier", 0, "settings", "blocks_to_search"], 3.0),
        (["frontier", 0, "settings"], {"blocks": 1}),
        (["frontier", 0, "settings"], 3),
        (["certificate"], None),
        (["certificate", "threshold"], 1.0),
        (["certificate", "tolerance"], 0.01),
        (["certificate", "policy", "settings", 0, "blocks_to_search"], 1),
        (["certificate", "p_value"], "mine"),
    ],
)
def test_a_file_that_lies_is_refused(tuned, path, keys, value):
    document = json.loads(path.read_text())
    change(document, *keys, to=value)
    path.write_text(json.dumps(document))
    before = tuned.index.settings
    with pytest.raises(ValueError, match="not the file of a tuned index"):
        retrieval.TunedIndex.load(path, tuned.index)
    assert tuned.index.settings == before


def test_edited_predictions_are_refused(tuned, path):
    """Each of them, by however little, with all else as it was."""
    for number in range(len(tuned.frontier)):
        document = json.loads(path.read_text())
        document["frontier"][number]["predicted_recall"] -= 1e-9
        edited = path.with_name("edited.json")
        edited.write_text(json.dumps(document))
        with pytest.raises(ValueError, match="points of this frontier"):
            retrieval.TunedIndex.load(edited, tuned.index)


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_a_search_for_no_results_is_refused(tuned, k):
    with pytest.raises(ValueError, match=f"`k` must be .* k={k}"):
        tuned.search(QUERIES, k)


def test_settings_of_other_bytes_are_refused(tuned, path):
    """In the frontier and in the certificate alike."""
    document = json.loads(path.read_text())
    certificate = document["certificate"]
    place = certificate["thresholds"].index(certificate["threshold"])
    cheap = {"blocks_to_search": tuned.settings["blocks_to_search"] - 1}
    certificate["policy"]["settings"][place] = cheap
    for point in document["frontier"]:
        if point["bytes_per_query"] == certificate["threshold"]:
            point["settings"] = cheap
    points = [retrieval.OperatingPoint(**p) for p in document["frontier"]]
    digest = policy_of([], tuned.k, points)["frontier"]
    certificate["policy"]["frontier"] = digest
    path.write_text(json.dumps(document))
    before = tuned.index.settings
    with pytest.raises(ValueError, match="not the file.*`bytes_per_query` mus"):
        retrieval.TunedIndex.load(path, tuned.index)
    assert tuned.index.settings == before


def test_integers_of_numpy_are_written(tuned, tmp_path):
    index = retrieval.BlockIndex(ROWS, k=4, block_size=16)
    tuner = retrieval.IndexTuner(index, k=np.int64(3))
    tuner.fit(QUERIES, target_recall=0.5).save(tmp_path / "tuned.json")
    loaded = retrieval.TunedIndex.load(tmp_path / "tuned.json", index)
    assert loaded.k == 3


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"k": 4}'])
def test_a_file_of_something_else_is_refused(tuned, path, text):
    path.write_text(text)
    with pytest.raises(ValueError, match="not the file of a tuned index"):
        retrieval.TunedIndex.load(path, tuned.index)
