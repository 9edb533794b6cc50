"""A look at the stages of a cascade, once they are loaded."""

from collections.abc import Callable
from typing import Any

import keras


class StagesCheck(keras.layers.Layer):
    """Compares rules with stages when a file has given back their weights.

    Keras loads the parts of a model in the order of their names, and calls
    nothing when all are there. This one has no weights: it comes behind
    `stages`, and looks.

    Args:
        check: raises where stages are not those of the rules.
    """

    def __init__(self, check: Callable[[], None], **kwargs: Any):
        super().__init__(**kwargs)
        self._check = check
        self.built = True

    def load_own_variables(self, store: Any) -> None:
        self._check()
