"""Loads of several batches, summed for one step of a router's bias."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import BiasBalancedRouter


class LoadAccumulators:
    """Sums the loads of a model's routers while gradients are summed.

    A router moves its bias once a call: with four batches an update it would
    move four times, each time by the load of a quarter. Within `in_place` the
    routers' loads are summed; `apply` then moves each bias once.

    Args:
        strategy: strategy of the model.
        model: built.
    """

    def __init__(self, strategy: tf.distribute.Strategy, model: keras.Model):
        routers = [
            layer
            for layer in flatten_layers(model)
            if isinstance(layer, BiasBalancedRouter) and layer.built
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
        """Lets routers add to the sums, while a step is traced."""
        try:
            for router, total in self.sums:
                router.take_load = total.assign_add
            yield
        finally:
            for router, _ in self.sums:
                router.take_load = router.move_bias

    def reset(self) -> None:
        """Sets the sums to zero."""
        for _, total in self.sums:
            total.assign(tf.zeros_like(total))

    def apply(self) -> None:
        """Moves each bias by the sum of its router's loads."""
        for router, total in self.sums:
            if router.trainable:
                router.move_bias(total.read_value())
