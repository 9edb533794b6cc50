"""Traps of DTensor: that they are still there, and that we keep out of them.

Where one of the first tests fails, TensorFlow has mended what it was about, and
what the library does because of it can go.
"""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

import keras_moe
from benchmarks.sharding.program import run
from keras_moe.distribution._stale_reads import VARIABLE
from keras_moe.distribution._stale_reads import forbid_stale_reads

ROOMS = ("ops", "losses", "metrics", "layers", "models")
PROGRAM = "tests.distribution.trap_case"


@pytest.mark.large
@pytest.mark.parametrize(
    ("trap", "fence"),
    [
        ("stale_read 1", "stale_reads.py"),
        ("exchange", "the order of `_GROUP_AXES` in ops/spread_groups.py"),
        ("first_entry", "`_only` in ops/linear_attention/chunks.py"),
        ("random", "`draw_uniform` in ops/spread_groups.py"),
    ],
)
def test_what_is_wrong_without_an_error_still_is(trap, fence):
    got, wanted = run(PROGRAM, *trap.split())
    assert got != wanted, f"{fence} is needed no more"


@pytest.mark.large
@pytest.mark.parametrize(
    ("trap", "message", "fence"),
    [
        ("scatter", "does not index into", "no scatter in ops"),
        ("transpose", "needs communication", "`_turned` in spread_groups"),
        # These two crash.
        ("new_axis", "", "the test below"),
        ("scalar_choice", "", "`_choose` in random_features.py"),
    ],
)
def test_what_fails_still_does(trap, message, fence):
    done = subprocess.run(
        [sys.executable, "-m", PROGRAM, trap], capture_output=True, text=True
    )
    assert done.returncode, f"{fence} is needed no more"
    assert message in done.stderr


# That the engine keeps models from stale reads is in `mesh_test`, whose process
# has a mesh already.


@pytest.mark.parametrize("value", ["1", "false", ""])
def test_an_environment_that_lets_it_is_refused(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(RuntimeError, match="must be unset, or '0'"):
        forbid_stale_reads()


def test_a_process_that_may_have_let_it_is_refused(monkeypatch):
    from tensorflow.dtensor.python import api

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(api, "_dtensor_singleton", object())
    with pytest.raises(RuntimeError, match="has run in this process already"):
        forbid_stale_reads()
    monkeypatch.setattr(api, "_dtensor_singleton", None)
    forbid_stale_reads()
    assert os.environ[VARIABLE] == "0"


def _new_axes(tree):
    """Yields subscripts whose new axes are followed by axes not named."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Subscript):
            continue
        index = node.slice
        parts = index.elts if isinstance(index, ast.Tuple) else [index]
        values = [getattr(part, "value", part) for part in parts]
        if None not in values:
            continue
        first = values.index(None)
        # After an ellipsis all axes are named; so they are, by our use, where
        # the last entry is a slice.
        named = Ellipsis in values[:first] or isinstance(parts[-1], ast.Slice)
        is_type = (
            isinstance(node.value, ast.Name) and node.value.id[0].isupper()
        )
        if not named and not is_type:
            yield node.lineno, ast.unparse(node)


def test_no_subscript_makes_dtensor_crash():
    root = pathlib.Path(keras_moe.__file__).parent
    found = [
        (str(path.relative_to(root)), *place)
        for room in ROOMS
        for path in (root / room).rglob("*.py")
        for place in _new_axes(ast.parse(path.read_text()))
    ]
    assert not found, "use ops.expand_dims"


def test_the_check_of_subscripts_finds_them():
    wrong = "x[None]; x[:, None]; x[None, ...]; y = a.b(c)[:, None]"
    right = "x[..., None]; x[None, :, :]; x[..., None, :]; Iterator[None]"
    assert len(list(_new_axes(ast.parse(wrong)))) == 4
    assert not list(_new_axes(ast.parse(right)))
