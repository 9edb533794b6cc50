"""Checks of what `Trainer` is given, before it starts."""

import keras
import tensorflow as tf

from keras_moe.keras_internals import strategy_of_optimizer
from keras_moe.training._loco_prop import LocoProp


def check_model(model: keras.Model) -> None:
    """Raises `ValueError` for a model that `Trainer` cannot train.

    Args:
        model: as the user gave it, of any type.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "`Trainer` needs Keras's TensorFlow backend. Received: "
            f"keras.backend.backend()={keras.backend.backend()!r}."
        )
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a `keras.Model`. Received: model={model!r}."
        )
    if not model.compiled or model.optimizer is None:
        raise ValueError(
            "`model` must be compiled, with an optimizer, under the strategy's "
            f"scope. Received: model={model.name!r}, which is not."
        )
    if model.run_eagerly:
        raise ValueError(
            "`model` must be compiled with `run_eagerly=False`: the loop is a "
            "graph. Received: run_eagerly=True."
        )
    if model.steps_per_execution > 1:
        raise ValueError(
            "`steps_per_execution` must be given to `Trainer`, not to "
            "`compile`. Received: model.steps_per_execution="
            f"{model.steps_per_execution}."
        )
    _check_replicas(model)


def _check_replicas(model: keras.Model) -> None:
    """Raises `ValueError` for a model that its strategy cannot train."""
    strategy = model.distribute_strategy
    replicas = strategy.num_replicas_in_sync
    of_optimizer = strategy_of_optimizer(model.optimizer)
    if of_optimizer is not None and of_optimizer is not strategy:
        raise ValueError(
            "`model` and its optimizer must be made under one strategy's "
            f"scope. Received: {type(strategy).__name__} and "
            f"{type(of_optimizer).__name__}."
        )
    if replicas == 1:
        return
    if model.jit_compile and not isinstance(
        strategy, tf.distribute.TPUStrategy
    ):
        raise ValueError(
            "`jit_compile` must be False or 'auto' under several replicas: "
            "XLA compiles a program for one device, and the update reads the "
            f"variables of all. Received: jit_compile={model.jit_compile} "
            f"under {replicas} replicas."
        )


def check_accumulation(
    model: keras.Model, gradient_accumulation_steps: int
) -> None:
    """Raises `ValueError` if gradients cannot be accumulated as asked for.

    On one device the optimizer may do so, if `Trainer` does not.

    Args:
        model: compiled.
        gradient_accumulation_steps: batches of an update of `Trainer`.
    """
    if gradient_accumulation_steps > 1 and isinstance(model, LocoProp):
        raise ValueError(
            "`gradient_accumulation_steps` must be 1 for `LocoProp`, which "
            "makes several updates of each batch. Received: "
            f"gradient_accumulation_steps={gradient_accumulation_steps}."
        )
    given = getattr(model.optimizer, "gradient_accumulation_steps", None)
    replicas = model.distribute_strategy.num_replicas_in_sync
    if given and (replicas > 1 or gradient_accumulation_steps > 1):
        raise ValueError(
            "`gradient_accumulation_steps` must be given to `Trainer`, not to "
            "the optimizer, whose way fails under several replicas. Received: "
            f"optimizer.gradient_accumulation_steps={given} under {replicas} "
            "replica(s)."
        )


def check_length(num_batches: int | None, batches_per_call: int) -> None:
    """Raises `ValueError` if an epoch cannot be cut into calls.

    Args:
        num_batches: batches of the epoch; `None` if it is not known.
        batches_per_call: the most batches of a call into TensorFlow.
    """
    if num_batches is None and batches_per_call > 1:
        raise ValueError(
            "`steps_per_epoch` must be given for data of unknown length with "
            "`steps_per_execution` or `gradient_accumulation_steps`. "
            "Received: steps_per_epoch=None."
        )
