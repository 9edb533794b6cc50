"""Lets mesh-tensorflow 0.1.21 be imported beside TensorFlow 2.21.

It was written for a TensorFlow that still had `estimator`. What its modules
look up while they are imported is put in place for that long and taken away
again, so that no other test sees it; neither package is changed. Nothing of
the mathematics is touched.
"""

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from unittest import mock

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops
from tensorflow.python.framework import tensor_conversion_registry

_PACKAGE = "mesh_tensorflow.transformer"


def import_from_mesh_tensorflow(*names: str) -> list[types.ModuleType]:
    """Imports modules of mesh-tensorflow.

    Args:
        *names: such as `"mesh_tensorflow.transformer.moe"`.

    Raises:
        ImportError: if it is not installed.
    """
    with _estimator(), _package_without_contents():
        return [importlib.import_module(name) for name in names]


@contextlib.contextmanager
def _estimator() -> Iterator[None]:
    """Gives TensorFlow what it has lost since."""
    estimator = types.ModuleType("tensorflow.compat.v1.estimator")
    # Base classes of hooks that nobody here uses.
    estimator.SessionRunHook = tf.train.SessionRunHook
    estimator.CheckpointSaverListener = tf.train.CheckpointSaverListener
    estimator.ModeKeys = types.SimpleNamespace(
        TRAIN="train", EVAL="eval", PREDICT="infer"
    )
    lost = (
        (tf, "estimator", estimator),
        # mesh-tensorflow registers its variables as something like a tensor.
        (
            ops,
            "register_tensor_conversion_function",
            tensor_conversion_registry.register_tensor_conversion_function,
        ),
        (ops, "register_dense_tensor_like_type", lambda tensor_type: None),
    )
    with contextlib.ExitStack() as stack:
        for owner, name, value in lost:
            stack.enter_context(
                mock.patch.object(owner, name, value, create=True)
            )
        yield


@contextlib.contextmanager
def _package_without_contents() -> Iterator[None]:
    """Keeps the package from importing all of its modules.

    Among them are those that read data sets and talk to TPUs, with
    requirements that are gone or that nothing here wants.
    """
    importlib.import_module(_PACKAGE.partition(".")[0])
    package = types.ModuleType(_PACKAGE)
    spec = importlib.util.find_spec(_PACKAGE)
    package.__path__ = spec.submodule_search_locations
    # Not `mock.patch.dict`: it would forget what is imported meanwhile.
    sys.modules[_PACKAGE] = package
    try:
        yield
    finally:
        del sys.modules[_PACKAGE]
