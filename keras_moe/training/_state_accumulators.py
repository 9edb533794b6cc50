"""One step of the state of layers for an update of several batches."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import BiasBalancedRouter
from keras_moe.layers import SequentialAttention


class StateAccumulators:
    """Lets a model's layers move once while gradients are summed.

    A router moves its bias once a call: with four batches an update it would
    move four times, each time by the load of a quarter. Within `in_place` the
    routers' loads are summed; `apply` then moves each bias once. So it is with
    the steps that a selection of features counts.

    Args:
        strategy: strategy of the model.
        model: built.
    """

    def __init__(self, strategy: tf.distribute.Strategy, model: keras.Model):
        built = [layer for layer in flatten_layers(model) if layer.built]
        routers = [
            each for each in built if isinstance(each, BiasBalancedRouter)
        ]
        self.selections = [
            each for each in built if isinstance(each, SequentialAttention)
        ]
        with strategy.scope():
            # Each replica moves its bias by its own load.
            self.sums = [
                (
                    router,
                    tf.Variable(
                        tf.zeros(router.expert_bias.shape),
                        trainable=False,
                        synchronization=tf.VariableSynchronization.ON_READ,
                        aggregation=tf.VariableAggregation.SUM,
                    ),
                )
                for router in routers
            ]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Holds layers back, and sums loads, while a step is traced."""
        try:
            for router, total in self.sums:
                router.take_load = total.assign_add
            for selection in self.selections:
                selection.take_step = _take_nothing
            yield
        finally:
            for router, _ in self.sums:
                router.take_load = router.move_bias
            for selection in self.selections:
                selection.take_step = selection.advance

    def reset(self) -> None:
        """Sets the sums to zero."""
        for _, total in self.sums:
            total.assign(tf.zeros_like(total))

    def apply(self) -> None:
        """Moves each bias by the sum of its router's loads; counts a step."""
        for router, total in self.sums:
            if router.trainable:
                router.move_bias(total.read_value())
        for selection in self.selections:
            if selection.trainable:
                selection.advance()


def _take_nothing() -> None:
    pass
