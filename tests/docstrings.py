"""Finds the examples in docstrings, and runs them."""

import doctest
import importlib
import pkgutil
import re
import textwrap

import keras
import numpy as np
import tensorflow as tf

import keras_moe

_FENCED = re.compile(r"^ *```python\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


def documented(chosen):
    """Yields what has a docstring, in modules that `chosen` takes by name."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in pkgutil.walk_packages(keras_moe.__path__, "keras_moe."):
        if not chosen(module.name):
            continue
        try:
            loaded = importlib.import_module(module.name)
        except ImportError as error:
            if error.name and not error.name.startswith("keras_moe"):
                continue
            raise
        yield from finder.find(loaded, module.name)


def fenced(found):
    """The code between fences in a docstring."""
    return "\n".join(
        textwrap.dedent(code) for code in _FENCED.findall(found.docstring)
    )


def run_prompted(found, directory, **names):
    """Runs what follows `>>>`, and compares what is printed."""
    found.globs.update(
        directory=str(directory),
        keras=keras,
        keras_moe=keras_moe,
        np=np,
        tf=tf,
        **names,
    )
    said = []
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    runner.run(found, out=said.append, clear_globs=False)
    assert runner.failures == 0, "".join(said)
