"""The guide's code runs as it stands, and finds what it says."""

import pathlib
import re

import keras
import numpy as np

GUIDE = pathlib.Path(__file__).parents[3] / "docs/feature_selection.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_guide_picks_what_it_says():
    imports, select, fresh, _ = BLOCK.findall(GUIDE.read_text())
    named = {}
    exec(imports, named)
    keras.utils.set_random_seed(0)
    exec(select, named)
    assert set(named["picked"]) in ({3, 8}, {7, 8})
    assert named["useless"] == []
    exec(fresh, named)
    columns = named["small"].layers[0](named["x"])
    kept = sorted(named["picked"])
    np.testing.assert_array_equal(columns, named["x"][:, kept])
    assert named["small"](named["x"]).shape == (1024, 2)
