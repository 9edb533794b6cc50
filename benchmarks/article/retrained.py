"""A model that is trained many times over, and traced once."""

from collections.abc import Callable
from typing import Any

import keras


class Retrained:
    """Starts the training of a model anew, with other seeds and rates.

    Args:
        make: makes the model anew, with fresh weights.
        optimizer: the optimizer.
        around: makes what trains the model, such as
            `keras_moe.training.LocoProp`; by default itself.
        **options: arguments of its `compile`.
    """

    def __init__(
        self,
        make: Callable[[], keras.Model],
        optimizer: keras.optimizers.Optimizer,
        around: Callable[[keras.Model], keras.Model] | None = None,
        **options: Any,
    ):
        self.make = make
        self.model = make()
        self.trainer = around(self.model) if around else self.model
        self.trainer.compile(optimizer, **options)
        optimizer.build(self.trainer.trainable_variables)
        kept = [*self.trainer.weights, *optimizer.variables]
        self._start = [(v, v.numpy()) for v in kept]

    def fit(self, seed: int, rate: float, *data: Any, **options: Any) -> Any:
        """Trains from fresh weights; returns the history's figures."""
        keras.utils.set_random_seed(seed)
        for variable, value in self._start:
            variable.assign(value)
        for weight, fresh in zip(
            self.model.weights, self.make().weights, strict=True
        ):
            weight.assign(fresh)
        self.trainer.optimizer.learning_rate = rate
        return self.trainer.fit(*data, verbose=0, **options).history
