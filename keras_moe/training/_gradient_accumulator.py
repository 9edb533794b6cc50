"""Gradients of several batches, summed for one update."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf


class GradientAccumulator:
    """Stands in for a model's optimizer, and sums the gradients it is given.

    A model's `train_step` applies its gradients to it as to an optimizer;
    `apply_mean` then makes one update of them. The real optimizer answers
    whatever else a training step asks, such as the number of updates.

    Args:
        strategy: strategy of the model.
        optimizer: the real optimizer.
        variables: trainable variables of the model.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        optimizer: keras.optimizers.Optimizer,
        variables: list[keras.Variable],
    ):
        self.optimizer = optimizer
        self.variables_of_model = variables
        self.has_gradient = [True] * len(variables)
        with strategy.scope():
            # Each replica sums its own gradients. The optimizer adds those of
            # all replicas, once an update instead of once a batch.
            self.sums = [
                tf.Variable(
                    tf.zeros(variable.shape, variable.dtype),
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )
                for variable in variables
            ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    def apply_gradients(self, grads_and_vars: Iterable) -> None:
        """Adds gradients to the sums, as Keras's older optimizers apply them.

        Args:
            grads_and_vars: pairs of a gradient and its variable.
        """
        gradients, variables = zip(*grads_and_vars, strict=True)
        self.apply(gradients, variables)

    def apply(self, grads: Iterable, trainable_variables: Any = None) -> None:
        """Adds gradients to the sums.

        Args:
            grads: a gradient, or `None`, for each variable.
            trainable_variables: their variables; by default the model's.

        Raises:
            ValueError: if they are not the model's, in the model's order.
        """
        grads = list(grads)
        given = list(trainable_variables or self.variables_of_model)
        if [id(v) for v in given] != [id(v) for v in self.variables_of_model]:
            raise ValueError(
                "`train_step` must apply gradients to "
                "`model.trainable_variables` where "
                "`gradient_accumulation_steps` is more than 1. Received: "
                f"{[v.path for v in given]}."
            )
        self.has_gradient = [gradient is not None for gradient in grads]
        for total, gradient in zip(self.sums, grads, strict=True):
            if gradient is not None:
                # Gradients of embeddings are `IndexedSlices`, which
                # `assign_add` does not take.
                total.assign_add(tf.convert_to_tensor(gradient))

    def reset(self) -> None:
        """Sets the sums to zero."""
        for total in self.sums:
            total.assign(tf.zeros_like(total))

    def apply_mean(self, num_batches: tf.Tensor) -> None:
        """Gives the optimizer the mean of the gradients.

        Args:
            num_batches: how many batches the sums are of.
        """
        means = [
            total.read_value() / tf.cast(num_batches, total.dtype)
            if exists
            else None
            for total, exists in zip(self.sums, self.has_gradient, strict=True)
        ]
        self.optimizer.apply(means, self.variables_of_model)
