"""The guide's code runs as it stands."""

import pathlib
import re

import keras
import numpy as np
import pytest

import keras_moe

GUIDE = pathlib.Path(__file__).parents[1] / "docs/article.md"
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(number):
    assert len(BLOCKS) == 5
    names = {"keras": keras, "keras_moe": keras_moe, "np": np}
    exec(BLOCKS[number], names)
