"""The examples use what is public."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_examples_import_rooms_alone(path):
    # `lint-imports` says the same of the packages; examples are no package.
    imported = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported += [f"{node.module}.{alias.name}" for alias in node.names]
    assert any(name.startswith("keras_moe") for name in imported)
    private = [
        name
        for name in imported
        if any(part.startswith("_") for part in name.split("."))
    ]
    assert not private
