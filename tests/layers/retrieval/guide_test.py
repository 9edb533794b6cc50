"""The guide's code runs as it stands, and finds what it says."""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_moe

GUIDE = pathlib.Path(__file__).parents[3] / "docs/retrieval.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
LEARNED = "## Training a dual encoder"


def names():
    return {"keras": keras, "keras_moe": keras_moe, "np": np, "tf": tf}


def test_everything_in_its_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guide, _ = GUIDE.read_text().split(LEARNED)
    index, update, serve, known, blocks, tune, faiss, merge = BLOCK.findall(
        guide
    )
    named = names()
    exec(index, named)
    assert found(named["names"]) == ["Rome", "Bern", "Kyiv"]
    exec(update, named)
    assert found(named["names"]) == ["Bonn", "Lyon", "Riga"]
    exec(serve, named)
    assert found(named["answer"]["names"]) == ["Bonn", "Lyon"]
    exec(known, named)
    assert named["candidates"] == 192
    assert round(named["recall"], 3) == 0.991
    exec(blocks, named)
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


def test_what_is_learned():
    _, guide = GUIDE.read_text().split(LEARNED)
    train, mine, sparse = BLOCK.findall(guide)
    named = names()
    keras.utils.set_random_seed(0)
    exec(train, named)
    # The words of a query are those of its document.
    assert named["recall"][-1] > 0.9
    exec(mine, named)
    assert named["mined"].shape == (64, 2)
    assert np.isfinite(named["history"].history["loss"]).all()
    exec(sparse, named)
    assert named["vectors"].shape[0] == 2


def found(names):
    return [name.decode() for name in np.asarray(names)[0]]
