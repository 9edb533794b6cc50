"""The guide's code runs as it stands, and finds what it says."""

import pathlib
import re

import keras
import numpy as np
import tensorflow as tf

import keras_moe

GUIDE = pathlib.Path(__file__).parents[3] / "docs/retrieval.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_everything_in_its_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"keras": keras, "keras_moe": keras_moe, "np": np, "tf": tf}
    index, update, serve, recall, merge = BLOCK.findall(GUIDE.read_text())
    exec(index, names)
    assert found(names["names"]) == ["Rome", "Bern", "Kyiv"]
    exec(update, names)
    assert found(names["names"]) == ["Bonn", "Lyon", "Riga"]
    exec(serve, names)
    assert found(names["answer"]["names"]) == ["Bonn", "Lyon"]
    exec(recall, names)
    assert names["candidates"] == 192
    assert round(names["recall"], 3) == 0.991
    exec(merge, names)
    assert np.array(names["where"]).tolist() == [[16, 33]]


def found(names):
    return [name.decode() for name in np.asarray(names)[0]]
