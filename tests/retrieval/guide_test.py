"""The guide's code runs as it stands, and finds what it says."""

import pathlib
import re

import keras
import numpy as np

GUIDE = pathlib.Path(__file__).parents[2] / "docs/retrieval.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_everything_in_its_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    names = {}
    for block in BLOCK.findall(GUIDE.read_text()):
        exec(block, names)
    # The encoder around a transformer comes back from its file.
    ids = {"query": np.array([[5, 6, 7, 1], [8, 1, 0, 0]])}
    loaded = keras.saving.load_model("sparse.keras")
    np.testing.assert_allclose(
        loaded(ids)["query"], names["sparse"](ids)["query"], atol=1e-6
    )
    # The served search: cosines, of an index that is not read whole.
    answer, titles = names["answer"], names["titles"]
    assert answer["identifiers"][0][0].decode() == titles[0]
    assert 0.8 < answer["scores"][0][0] <= 1.0
    assert names["tuned"].bytes_per_query < names["vectors"].numpy().nbytes / 2
