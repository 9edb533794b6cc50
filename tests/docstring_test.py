"""The examples in the docstrings run, and print what they say."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_moe

pytestmark = pytest.mark.long

# Wrapped around TFX, which takes long to import; their examples are not run.
EXTRAS = (
    "keras_moe.components",
    "keras_moe.orchestration.running._component_failed_error",
    "keras_moe.orchestration.running._reporting_runner",
)


def cases():
    for module in pkgutil.walk_packages(keras_moe.__path__, "keras_moe."):
        if module.name.startswith(EXTRAS):
            continue
        try:
            loaded = importlib.import_module(module.name)
        except ImportError as error:
            if error.name and not error.name.startswith("keras_moe"):
                continue
            raise
        finder = doctest.DocTestFinder(exclude_empty=True)
        for test in finder.find(loaded, module.name):
            if test.examples:
                yield pytest.param(test, id=test.name)


@pytest.mark.parametrize("case", list(cases()))
def test_example(case, tmp_path):
    case.globs.update(
        directory=str(tmp_path / "new"),
        keras=keras,
        keras_moe=keras_moe,
        np=np,
        tf=tf,
    )
    said = []
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    runner.run(case, out=said.append, clear_globs=False)
    assert runner.failures == 0, "".join(said)
