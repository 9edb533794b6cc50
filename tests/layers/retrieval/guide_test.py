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


def test_everything_in_its_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"keras": keras, "keras_moe": keras_moe, "np": np, "tf": tf}
    blocks = iter(BLOCK.findall(GUIDE.read_text()))
    exec(next(blocks), names)
    assert found(names["names"]) == ["Rome", "Bern", "Kyiv"]
    exec(next(blocks), names)
    assert found(names["names"]) == ["Bonn", "Lyon", "Riga"]
    exec(next(blocks), names)
    assert found(names["answer"]["names"]) == ["Bonn", "Lyon"]
    exec(next(blocks), names)
    assert names["candidates"] == 192
    assert round(names["recall"], 3) == 0.991
    exec(next(blocks), names)  # an index of blocks
    exec(next(blocks), names)  # tuned
    assert str(names["tuned"]) == "recall@10 of at least 0.95, confidence 95 %"
    assert names["tuned"].predicted_recall > 0.95
    loaded = keras.models.load_model("index.keras").layers[-1]
    keras_moe.retrieval.TunedIndex.load("tuned.json", loaded)
    exec(next(blocks), names)  # faiss
    assert names["tuned"].certified_recall == pytest.approx(0.95)
    assert names["names"].shape == (1200, 10)
    exec(next(blocks), names)  # parts
    assert np.array(names["where"]).tolist() == [[16, 33]]
    assert not list(blocks)


def found(names):
    return [name.decode() for name in np.asarray(names)[0]]
