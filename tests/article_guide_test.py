"""The guide's code runs as it stands."""

import pathlib
import re

import pytest

GUIDE = pathlib.Path(__file__).parents[1] / "docs/article.md"
IMPORTS, *BLOCKS = re.findall(
    r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL
)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(number):
    assert len(BLOCKS) == 5
    names = {}
    exec(IMPORTS, names)
    exec(BLOCKS[number], names)
