"""Whether a model's answers depend on the scale of its weights."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_moe.validation import check_positive


def assert_scale_invariant(
    model: keras.layers.Layer,
    x: Any,
    scale: float = 37.0,
    tolerance: float = 1e-4,
    weights: Sequence[keras.Variable] | None = None,
) -> float:
    """Checks that a model answers alike when its weights are multiplied.

    Losses then do not depend on the scale of the weights, which
    `keras_moe.optimizers.RelativeClipSGD` takes for granted. The weights are
    as they were when the function ends, also by an error.

    Source: [Li et al., 2022](https://arxiv.org/abs/2202.00980), section 4.

    Args:
        model: a model or layer, built; where a head has another optimizer, the
            encoder alone.
        x: inputs, of which answers differ from zero.
        scale: what the weights are multiplied by, positive and not 1.
        tolerance: largest error that passes.
        weights: what is multiplied; by default all trainable weights.

    Returns:
        The error: the largest difference of outputs, over their largest size.

    Raises:
        ValueError: if `scale` is 1 or not positive, or nothing is trainable.
        AssertionError: if the error is above `tolerance`, or not a number.

    Example:

    >>> norm = keras.layers.LayerNormalization(
    ...     center=False, scale=False, epsilon=1e-20
    ... )
    >>> model = keras.Sequential([keras.layers.Dense(4), norm])
    >>> x = np.random.rand(3, 2)
    >>> outputs = model(x)
    >>> keras_moe.optimizers.assert_scale_invariant(model, x) < 1e-4
    True
    """
    check_positive(scale=scale)
    if scale == 1:
        raise ValueError("`scale` must not be 1. Received: scale=1.")
    chosen = model.trainable_weights if weights is None else list(weights)
    if not chosen:
        raise ValueError(
            "`model` must be built and have trainable weights. Received: "
            f"{model.name!r}, which has none."
        )
    before = _outputs(model, x)
    kept = [ops.convert_to_numpy(weight) for weight in chosen]
    try:
        for weight, value in zip(chosen, kept, strict=True):
            weight.assign(value * np.asarray(scale, value.dtype))
        after = _outputs(model, x)
    finally:
        for weight, value in zip(chosen, kept, strict=True):
            weight.assign(value)
    size = np.max([np.abs(each).max(initial=0.0) for each in before])
    difference = np.max(
        [
            np.abs(one - other).max(initial=0.0)
            for one, other in zip(before, after, strict=True)
        ]
    )
    error = float(difference / size) if size else float(difference)
    if not error <= tolerance:
        raise AssertionError(
            f"`model` must answer alike when its weights are multiplied by "
            f"{scale}; its outputs change by {error:.3g} of their size, more "
            f"than tolerance={tolerance}. Biases, affine norms at the end and "
            f"epsilons are what mostly breaks it. Received: {model.name!r}."
        )
    return error


def _outputs(model: keras.layers.Layer, x: Any) -> list[np.ndarray]:
    return [
        ops.convert_to_numpy(ops.cast(each, "float64"))
        for each in keras.tree.flatten(model(x))
    ]
