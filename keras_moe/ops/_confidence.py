"""How sure a decoder is of its next token.

Every score is float32, and the greater, the surer. None is a probability of
being right: `keras_moe.calibration` turns a threshold on any of them into a
statement about errors.
"""

import math

from keras import ops

from keras_moe.types import Tensor


def softmax_margin(logits: Tensor) -> Tensor:
    """Returns by how much the likeliest token leads the next, in [0, 1].

    Source: softmax response of [CALM, Schuster et al.,
    2022](https://arxiv.org/abs/2207.07061), section 3.5.

    Args:
        logits: `[..., vocabulary]`, of at least two tokens.

    Returns:
        float32 `[...]`, the difference of the two greatest probabilities.

    Example:

    >>> logits = np.log([[0.5, 0.3, 0.2]])
    >>> round(float(keras_moe.ops.softmax_margin(logits)[0]), 4)
    0.2
    """
    probabilities = ops.softmax(ops.cast(logits, "float32"), axis=-1)
    leaders, _ = ops.top_k(probabilities, 2)
    return leaders[..., 0] - leaders[..., 1]


def entropy_confidence(logits: Tensor) -> Tensor:
    """Returns 1 minus the entropy over its greatest value, in [0, 1].

    Source: the normalised entropy of [FastBERT, Liu et al.,
    2020](https://arxiv.org/abs/2004.02178), section 3.4, turned round.

    Args:
        logits: `[..., vocabulary]`, of at least two tokens.

    Returns:
        float32 `[...]`.

    Example:

    >>> round(float(keras_moe.ops.entropy_confidence(np.zeros((1, 8)))[0]), 4)
    0.0
    """
    log_p = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    # A forbidden token may have a log-probability of -inf, and 0 * -inf is NaN:
    # the bound makes its product 0.
    entropy = -ops.sum(ops.exp(log_p) * ops.maximum(log_p, -1e30), axis=-1)
    greatest = math.log(log_p.shape[-1])
    return ops.clip(1.0 - entropy / greatest, 0.0, 1.0)


def state_saturation(before: Tensor, after: Tensor) -> Tensor:
    """Returns the cosine between a layer's input and its output, in [-1, 1].

    Source: hidden-state saturation of [CALM, Schuster et al.,
    2022](https://arxiv.org/abs/2207.07061), section 3.5.

    Args:
        before: `[..., dim]`.
        after: `[..., dim]`.

    Returns:
        float32 `[...]`; 0 where one of them is zero.

    Example:

    >>> before, after = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])
    >>> round(float(keras_moe.ops.state_saturation(before, after)[0]), 4)
    0.7071
    """
    before = ops.cast(before, "float32")
    after = ops.cast(after, "float32")
    product = ops.sum(before * after, axis=-1)
    # Norms are divided by one after the other: their product may leave the
    # range of float32.
    for state in (before, after):
        squares = ops.sum(state * state, axis=-1)
        product = product * ops.rsqrt(ops.maximum(squares, 1e-30))
    # A threshold above 1 means "never exit": rounding must not carry the
    # cosine above it.
    return ops.clip(product, -1.0, 1.0)
