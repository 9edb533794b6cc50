"""The guide's code runs as it stands, and finds what it says."""

import pathlib
import re

import keras
import numpy as np
import pytest

import keras_moe

GUIDE = pathlib.Path(__file__).parents[2] / "docs/retrieval.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
LEARNED, SERVED = "## Training a dual encoder", "## From texts to a server"


def blocks():
    """The blocks of the page: on indexes, on what is learned, on a server."""
    indexes, rest = GUIDE.read_text().split(LEARNED)
    learned, served = rest.split(SERVED)
    return [BLOCK.findall(part) for part in (indexes, learned, served)]


def imported():
    """The names that the page imports, and no other."""
    names = {}
    exec(blocks()[0][0], names)
    return names


def test_indexes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = imported()
    index, update, serve, known, parts, tune, faiss, merge = blocks()[0][1:]
    exec(index, named)
    assert found(named["names"]) == ["Rome", "Bern", "Kyiv"]
    exec(update, named)
    assert found(named["names"]) == ["Bonn", "Lyon", "Riga"]
    exec(serve, named)
    assert found(named["answer"]["names"]) == ["Bonn", "Lyon"]
    exec(known, named)
    assert named["candidates"] == 192
    assert round(named["recall"], 3) == 0.991
    exec(parts, named)
    exec(tune, named)
    assert str(named["tuned"]) == "recall@10 of at least 0.95, confidence 95 %"
    assert named["tuned"].predicted_recall > 0.95
    loaded = keras.models.load_model("index.keras").layers[-1]
    keras_moe.retrieval.TunedIndex.load("tuned.json", loaded)
    exec(faiss, named)
    assert named["tuned"].certified_recall == pytest.approx(0.95)
    assert named["names"].shape == (1200, 10)
    exec(merge, named)
    assert np.array(named["where"]).tolist() == [[16, 33]]


@pytest.mark.usefixtures("functions_run_eagerly")
def test_what_is_learned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = imported()
    train, mine, sparse = blocks()[1]
    keras.utils.set_random_seed(0)
    exec(train, named)
    # The words of a query are those of its document.
    assert named["recall"][-1] > 0.9
    exec(mine, named)
    assert named["mined"].shape == (64, 2)
    assert np.isfinite(named["history"].history["loss"]).all()
    exec(sparse, named)
    # The encoder around a transformer comes back from its file.
    ids = {"query": np.array([[5, 6, 7, 1], [8, 1, 0, 0]])}
    loaded = keras.saving.load_model("sparse.keras")
    np.testing.assert_allclose(
        loaded(ids)["query"], named["sparse"](ids)["query"], atol=1e-6
    )


@pytest.mark.usefixtures("servers_look_often")
def test_from_texts_to_a_server(tmp_path, monkeypatch):
    """Cosines, of an index that is not read whole."""
    monkeypatch.chdir(tmp_path)
    named = imported()
    keras.utils.set_random_seed(0)
    (served,) = blocks()[2]
    exec(served, named)
    answer = named["answer"]
    first = answer["identifiers"][0][0].decode().split()
    assert len(set(first) & set(named["query"][0].split())) >= 3
    # Vectors that were not normalised would give 0.1.
    assert 0.7 < answer["scores"][0][0] <= 1.0
    assert named["tuned"].bytes_per_query < named["vectors"].numpy().nbytes / 2


def found(names):
    return [name.decode() for name in np.asarray(names)[0]]
