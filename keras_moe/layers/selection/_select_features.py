"""Passes on some of the features."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_moe.layers.selection._features import check_unique
from keras_moe.layers.selection._features import column_groups
from keras_moe.layers.selection._features import read_groups
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.validation import check_choice


@register
class SelectFeatures(keras.layers.Layer):
    """Passes on the features that are kept, and drops the others.

    Args:
        features: which are kept: numbers of columns or, by name, groups or
            inputs.
        groups: names and numbers of columns, as of
            `keras_moe.layers.SequentialAttention`; `None` for columns, and for
            a dictionary of inputs.

    Call arguments:
        inputs: `(..., columns)`; or a dictionary of names to tensors.

    Output shape:
        `(..., kept columns)`, in the order in which they came; or a dictionary
        of the inputs that are kept.

    Raises:
        ValueError: if `features` are none, unknown, or come twice.

    Example:

    >>> layer = keras_moe.layers.SelectFeatures([3, 0])
    >>> layer(np.array([[5.0, 6.0, 7.0, 8.0]])).numpy().tolist()
    [[5.0, 8.0]]
    >>> layer = keras_moe.layers.SelectFeatures(["age"])
    >>> sorted(layer({"age": np.ones((2, 1)), "shoes": np.ones((2, 1))}))
    ['age']
    """

    def __init__(
        self,
        features: Sequence[int] | Sequence[str],
        groups: Any = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.features: list[Any] = [
            each if isinstance(each, str) else int(each) for each in features
        ]
        self.groups = read_groups(groups)
        check_unique("features", self.features)
        if self.groups is not None:
            names = [name for name, _ in self.groups]
            for each in self.features:
                check_choice(names, features=each)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if isinstance(input_shape, dict):
            for name in self.features:
                check_choice(sorted(input_shape), features=name)
            return
        owner = column_groups(input_shape, self.groups)
        kept: list = self.features
        if self.groups is not None:
            names = [name for name, _ in self.groups]
            kept = [names.index(name) for name in self.features]
        wrong = [
            each
            for each in kept
            if isinstance(each, str) or not 0 <= each <= owner[-1]
        ]
        if wrong:
            raise ValueError(
                f"`features` must be numbers from 0 to {owner[-1]}. Received: "
                f"{wrong}."
            )
        self.columns = np.flatnonzero(np.isin(owner, kept)).astype("int32")

    def call(self, inputs: Any) -> Any:
        if isinstance(inputs, dict):
            return {name: inputs[name] for name in self.features}
        return ops.take(inputs, self.columns, axis=-1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if isinstance(mask, dict):
            return {name: mask[name] for name in self.features}
        return mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        if isinstance(input_shape, dict):
            return {name: input_shape[name] for name in self.features}
        return (*input_shape[:-1], len(self.columns))

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "features": self.features,
            "groups": self.groups,
        }
