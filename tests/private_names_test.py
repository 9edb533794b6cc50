"""No other file than `keras_internals` touches private names of Keras."""

import ast
import pathlib

import pytest

import keras_moe

PACKAGE = pathlib.Path(keras_moe.__file__).parent
# Of `NamedTuple`, whose methods begin with an underscore but are public.
PUBLIC = {"_replace", "_asdict", "_fields"}
# Private names of other libraries, with the file that has each.
OTHERS = {
    "_DEFAULT_IMAGE_PATH_KEY": "orchestration/running/_kubeflow_runner.py",
    "_dtensor_singleton": "distribution/_stale_reads.py",
    "_make_callable_from_options": "serving/server/_servable.py",
}


def test_no_other_file_touches_private_names_of_keras():
    """Of objects that are not a file's own.

    A private name is a file's own if the file defines it or sets it. On `self`
    only names that `keras_internals` has are looked for: the others are the
    class's own; after `super()` none, since an override may call what it
    overrides.
    """
    internals = sorted((PACKAGE / "keras_internals").glob("*.py"))
    known = {
        name
        for path in internals
        for name, _ in private_attributes(ast_of(path))
    }
    known |= {"_keras_mask", "_kernel", "_distribution_strategy"}
    assert {"_flatten_layers", "_value", "_var_key"} <= known
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if path in internals:
            continue
        tree = ast_of(path)
        own = own_names(tree)
        for name, owner in private_attributes(tree):
            if name in PUBLIC or OTHERS.get(name) == place:
                continue
            if owner == "super()" or name in own - known:
                continue
            if owner in ("self", "cls") and name not in known:
                continue
            found.append(f"{place}: {owner}.{name}")
        found += [
            f"{place}: import of {module}"
            for module in imported(tree)
            if module.startswith("keras.src")
        ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "private"),
    [
        ("layer._flatten_layers()", [("_flatten_layers", "layer")]),
        ("self.model._compile_loss", [("_compile_loss", "self.model")]),
        ("getattr(x, '_keras_mask', None)", [("_keras_mask", "x")]),
        ("super()._get_own_losses()", [("_get_own_losses", "super()")]),
        ("x.__len__()", []),
    ],
)
def test_the_scan_finds_private_names(source, private):
    assert list(private_attributes(ast.parse(source))) == private


def ast_of(path):
    return ast.parse(path.read_text())


def private_attributes(tree):
    """Yields the private names that are read or set, and of what."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name, owner = node.attr, node.value
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "setattr", "hasattr", "delattr")
            and isinstance(node.args[1], ast.Constant)
        ):
            name, owner = node.args[1].value, node.args[0]
        else:
            continue
        if name.startswith("_") and not name.startswith("__"):
            yield name, ast.unparse(owner)


def own_names(tree):
    """Names that a file defines, or sets on any object."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(
            node.ctx, ast.Store
        ):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
