"""How hard targets are for a model to learn."""

from typing import Any

import keras
import numpy as np

from keras_moe.backend import jacobian
from keras_moe.types import Tensor
from keras_moe.validation import check_positive


def supervision_complexity(
    model: keras.Model, x: Any, targets: Tensor, ridge: float = 1e-3
) -> float:
    """Returns the supervision complexity of targets for a model.

    `sqrt(tr(Y^T K^-1 Y) * tr(K)) / n`, with K the model's tangent kernel on n
    examples, averaged over outputs, and Y the targets less their mean. The
    smaller, the better targets follow the directions in which the model learns
    fast: clean labels have less than noisy ones, and a teacher's answers less
    than labels, and less the earlier its checkpoint.

    Use it to compare checkpoints of a teacher, or temperatures, for the same
    model and examples; the number by itself says little. It also falls where
    targets merely shrink, so a teacher that knows nothing has the least: the
    accuracy of the teacher belongs beside it.

    Source: [Harutyunyan et al., 2023](https://arxiv.org/abs/2301.12245),
    section 3, in the form adjusted for the scale of K.

    Args:
        model: the student, of one output `[n, outputs]`, with trainable
            weights. Memory grows with `n * outputs * weights` and the square
            of n: a few hundred examples and a small model.
        x: inputs of n examples, at least 2.
        targets: `[n, outputs]`, such as a teacher's probabilities; or int
            `[n]`, classes.
        ridge: share of K's mean diagonal that is added to it, for K is nearly
            singular. Compare figures of the same ridge alone.

    Returns:
        The complexity, at least 0.

    Raises:
        ValueError: if targets do not fit the outputs or are no numbers, the
            model has no trainable weights, there are fewer than 2 examples, or
            an argument is out of its range.
        RuntimeError: on a backend other than TensorFlow.

    Example:

    >>> keras.utils.set_random_seed(0)
    >>> x = np.random.normal(size=(40, 2))
    >>> labels = (x[:, 0] > 0).astype(int)
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((2,)),
    ...         keras.layers.Dense(16, activation="tanh"),
    ...         keras.layers.Dense(2),
    ...     ]
    ... )
    >>> of_labels = keras_moe.metrics.supervision_complexity(model, x, labels)
    >>> shuffled = keras_moe.metrics.supervision_complexity(
    ...     model, x, np.random.permutation(labels)
    ... )
    >>> of_labels < shuffled
    True
    """
    check_positive(ridge=ridge)
    if not model.trainable_variables:
        raise ValueError(
            "`model` must have trainable weights. Received: "
            f"{model.name}, without any."
        )
    kernel, outputs = _tangent_kernel(model, x)
    if len(kernel) < 2:
        # Less its mean, any target of one example is 0.
        raise ValueError(
            "`x` must be at least 2 examples: targets are compared. Received: "
            f"{len(kernel)}."
        )
    y = _centred(targets, len(kernel), outputs)
    trace = float(np.trace(kernel))
    if not np.isfinite(trace) or trace <= 0.0:
        raise ValueError(
            "The model's outputs must depend on its weights, by numbers. "
            f"Received: a tangent kernel of trace {trace}."
        )
    size = len(kernel)
    kernel[np.diag_indices(size)] += ridge * trace / size
    energy = float(np.sum(y * np.linalg.solve(kernel, y)))
    return float(np.sqrt(max(energy, 0.0) * trace) / size)


def _tangent_kernel(model: keras.Model, x: Any) -> tuple[np.ndarray, int]:
    """Returns the kernel, float64 `[n, n]`, and the number of outputs."""
    kernel: Any = 0.0
    outputs = 0
    for derivatives in jacobian(model, x):
        size, outputs, _ = derivatives.shape
        rows = derivatives.reshape(size, -1)
        kernel = kernel + (rows @ rows.T).astype("float64") / outputs
    return kernel, outputs


def _centred(targets: Tensor, size: int, outputs: int) -> np.ndarray:
    y = np.asarray(keras.ops.convert_to_numpy(targets))
    if y.shape == (size,) and y.dtype.kind in "iu":
        if not (0 <= y.min() and y.max() < outputs):
            raise ValueError(
                f"`targets` must be classes in [0, {outputs}). Received: "
                f"{y.min()} to {y.max()}."
            )
        y = np.eye(outputs)[y]
    if y.shape != (size, outputs):
        raise ValueError(
            f"`targets` must be [{size}, {outputs}], as the model's outputs, "
            f"or {size} classes. Received: shape={y.shape} of {y.dtype}."
        )
    y = y.astype("float64")
    if not np.isfinite(y).all():
        raise ValueError(
            "`targets` must be numbers. Received: NaN or infinity."
        )
    return y - y.mean(axis=0)
