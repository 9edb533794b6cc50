"""A model whose training step is traced once."""

import keras

from keras_moe.keras_internals import flatten_layers
from keras_moe.training._build_state import build_optimizer


class TracedOnce(keras.Model):
    """Makes the optimizer's variables before `fit` traces a step.

    Keras makes them while it traces the first one. TensorFlow then traces the
    step anew, as it is once they are there: twice the wait for the first
    update, minutes for a large model.

    Example:

    >>> class Model(keras_moe.training._traced_once.TracedOnce):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.dense = keras.layers.Dense(1)
    ...         self.dense.build((None, 2))
    ...         self.built, self.traces = True, 0
    ...
    ...     def call(self, x):
    ...         self.traces += 1
    ...         return self.dense(x)
    >>> model = Model()
    >>> model.compile("adam", "mse")
    >>> history = model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    >>> model.traces
    1
    """

    def make_train_function(self, force: bool = False) -> None:
        """Makes what `fit` calls, and the optimizer's variables before it."""
        strategy = getattr(self, "distribute_strategy", None)
        # Only TensorFlow's models have one, and other backends trace no step
        # twice. Layers that are not built yet would be left out.
        if strategy and all(layer.built for layer in flatten_layers(self)):
            with strategy.scope():
                build_optimizer(self)
        super().make_train_function(force)
