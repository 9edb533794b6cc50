"""Keras's `fit`, `evaluate` and `predict` on the mesh of an engine.

Keras asks a model for the functions that take batches from an iterator. An
iterator cannot be read where devices share tensors: these functions read it,
spread the batch, and run the model's own step.
"""

import functools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_moe.distribution._compiling_engine import CompilingEngine
from keras_moe.distribution._placement import to_whole
from keras_moe.keras_internals import trained_variables
from keras_moe.training._build_state import build_state
from keras_moe.training._build_state import has_all_metrics

_KINDS = ("train", "test", "predict")


def install(engine: CompilingEngine, model: keras.Model) -> None:
    """Makes a model's functions run on an engine's mesh.

    Args:
        engine: that moved the model's variables.
        model: compiled.
    """
    if "make_train_function" in vars(model):
        return
    if model.run_eagerly:
        raise ValueError(
            "A model on a mesh of devices is always compiled. Received: a "
            "model that was compiled with run_eagerly=True."
        )
    _drop_functions(model)
    makers = (_train_function, _test_function, _predict_function)
    for kind, make in zip(_KINDS, makers, strict=True):
        setattr(
            model,
            f"make_{kind}_function",
            functools.partial(_make, engine, model, kind, make),
        )
    model.get_metrics_result = _MetricsResult(engine, model)


def uninstall(model: keras.Model) -> None:
    """Gives a model its own functions back.

    Args:
        model: any.
    """
    if "make_train_function" not in vars(model):
        return
    _drop_functions(model)
    for kind in _KINDS:
        delattr(model, f"make_{kind}_function")
    delattr(model, "get_metrics_result")


def _drop_functions(model: keras.Model) -> None:
    for kind in _KINDS:
        setattr(model, f"{kind}_function", None)


def _make(
    engine: CompilingEngine,
    model: keras.Model,
    kind: str,
    make: Callable,
    force: bool = False,
) -> Callable:
    name = f"{kind}_function"
    if getattr(model, name) is None or force:
        setattr(model, name, make(engine, model))
    return getattr(model, name)


def _train_function(engine: CompilingEngine, model: keras.Model) -> Callable:
    optimizer = model.optimizer
    laid_out = _LaidOutGradients(engine, optimizer)

    def step(batch: Any) -> Any:
        model.optimizer = laid_out
        try:
            return model.train_step(batch)
        finally:
            model.optimizer = optimizer

    return _on_iterator(engine, model, step)


def _test_function(engine: CompilingEngine, model: keras.Model) -> Callable:
    return _on_iterator(engine, model, model.test_step)


def _on_iterator(
    engine: CompilingEngine, model: keras.Model, step: Callable
) -> Callable:
    step = engine.function(step)

    def run(iterator: Iterator) -> dict[str, float]:
        batch = next(iterator)
        if not has_all_metrics(model):
            # Make the metrics' variables before the step: those that Keras
            # makes within it would stay off the mesh.
            build_state(model, batch)
            engine.distribute(model)
        logs = step(engine.batch(batch))
        for _ in range(1, model.steps_per_execution):
            batch = next(iterator, None)
            if batch is None:
                break
            logs = step(engine.batch(batch))
        return _to_host(logs)

    return run


def _predict_function(engine: CompilingEngine, model: keras.Model) -> Callable:
    step = engine.function(model.predict_step)
    count = engine.axis_sizes.get(engine.rows_axis or "", 1)

    def run(batches: list) -> Any:
        results = []
        for batch in batches:
            rows = len(keras.tree.flatten(batch)[0])
            missing = -rows % count
            # Repeat the last row until the devices can share the batch evenly;
            # outputs of the repeated rows are cut off below.
            full = keras.tree.map_structure(
                functools.partial(_repeat_last, times=missing), batch
            )
            outputs = _to_host(step(engine.batch(full)))
            results.append(
                keras.tree.map_structure(lambda x, n=rows: x[:n], outputs)
            )
        return keras.tree.map_structure(
            lambda *parts: tf.constant(np.concatenate(parts)), *results
        )

    return run


def _repeat_last(x: Any, times: int) -> Any:
    if not times or x is None:
        return x
    x = np.asarray(x)
    return np.concatenate([x, np.repeat(x[-1:], times, axis=0)])


def _to_host(structure: Any) -> Any:
    return keras.tree.map_structure(to_whole, structure)


class _LaidOutGradients:
    """Stands for a model's optimizer, and lays out gradients for it.

    All else that a training step may ask of an optimizer, the real one
    answers.
    """

    def __init__(
        self,
        engine: CompilingEngine,
        optimizer: keras.optimizers.Optimizer,
    ):
        self.engine = engine
        self.optimizer = optimizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    def apply_gradients(self, grads_and_vars: Iterable) -> None:
        gradients, variables = zip(*grads_and_vars, strict=True)
        self.apply(gradients, variables)

    def apply(self, gradients: Any, variables: Any = None) -> None:
        if variables is None:
            variables = trained_variables(self.optimizer)
        self.optimizer.apply(
            self.engine.lay_out(gradients, variables), variables
        )


class _MetricsResult:
    """The model's `get_metrics_result`, computed where the metrics lie."""

    def __init__(self, engine: CompilingEngine, model: keras.Model):
        self.compute = functools.partial(type(model).get_metrics_result, model)
        self.compiled = engine.function(self.compute)

    def __call__(self) -> dict[str, Any]:
        if tf.executing_eagerly():
            return _to_host(self.compiled())
        return self.compute()
