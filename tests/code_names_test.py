"""Code on pages and in docstrings names what the library has."""

import ast
import functools
import pathlib
import re
import textwrap

import griffe
import pytest

ROOT = pathlib.Path(__file__).parents[1]
FENCED = re.compile(r"^ *```python\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
FILES = [
    path
    for path in [
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "keras_moe").rglob("*.py")),
    ]
    if FENCED.search(path.read_text())
]


@functools.cache
def package():
    return griffe.load("keras_moe", search_paths=[ROOT])


def dotted(node):
    """`a.b.c` as written, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (above := dotted(node.value)):
        return f"{above}.{node.attr}"
    return None


def imports(tree):
    """The names that code imports from the library, and what they stand for."""
    return {
        imported.asname or imported.name: f"{node.module}.{imported.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").split(".")[0] == "keras_moe"
        for imported in node.names
    }


def faults(code):
    """Names and arguments that are not there."""
    tree = ast.parse(code)
    known = imports(tree)

    def full(node):
        first, _, rest = (dotted(node) or "").partition(".")
        return ".".join(filter(None, [known.get(first, first), rest]))

    names = {*known.values()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names.add(full(node))
    for name in names:
        if name.startswith("keras_moe.") and find(name) is None:
            yield name
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and full(node.func).startswith("keras_m"):
            yield from unknown_arguments(full(node.func), node)


def find(name):
    """The room, or the public name of a room, that a path begins with."""
    found = package()
    for part in name.split(".")[1:3]:
        if part.startswith("__"):
            return found
        found = found.all_members.get(part)
        if found is None:
            return None
    return found


def unknown_arguments(name, call):
    called = find(name)
    if name.count(".") > 2 or not (
        called and called.is_class | called.is_function
    ):
        return
    # Of a constructor that another library writes, nothing is known.
    if called.is_class and "__init__" not in called.all_members:
        return
    parameters = called.parameters
    if any(p.kind is griffe.ParameterKind.var_keyword for p in parameters):
        return
    known = {p.name for p in parameters}
    for keyword in call.keywords:
        if keyword.arg and keyword.arg not in known:
            yield f"{name}({keyword.arg}=)"


@pytest.mark.parametrize(
    "path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_code_names_what_is_there(path):
    found = [
        fault
        for code in FENCED.findall(path.read_text())
        for fault in faults(textwrap.dedent(code))
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "keras_moe.layers.SparseMoe(8)",
        "from keras_moe.layers import SparseMoe",
        "keras_moe.serving.export(model, path, x, y, warmup=2)",
        "from keras_moe.ops import shift_right as r\nr(labels, pad=0)",
    ],
)
def test_faults_are_found(code):
    assert len(list(faults(code))) == 1
