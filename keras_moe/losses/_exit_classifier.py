"""Losses of a learned confidence."""

from keras import ops

from keras_moe.types import Tensor
from keras_moe.validation import check_choice

EXIT_CLASSIFIER_LOSSES = ("independent", "geometric")


def exit_classifier_loss(
    logits: Tensor,
    agrees: Tensor,
    mask: Tensor | None = None,
    kind: str = "independent",
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Returns the loss of a classifier that tells when an exit is right.

    An exit is right if its likeliest token is that of the last layer.

    Source: [CALM, Schuster et al., 2022](https://arxiv.org/abs/2207.07061),
    section 3.5, and for `"geometric"` its appendix on a geometric-like
    objective.

    Args:
        logits: `[exits, ...]`, of the exits below the last layer: the
            classifier's logit of "this exit agrees with the last layer".
        agrees: bool `[exits, ...]`: whether the exit does agree.
        mask: bool `[...]`, false for padding.
        kind: `"independent"`, the mean over exits of a binary cross-entropy in
            which both answers weigh the same, however rare one is; or
            `"geometric"`, the cross-entropy of the lowest exit that agrees,
            where an exit is reached if no lower one was taken, and the last
            layer always agrees.
        sample_weight: `[batch]`, or of the mask's shape: factors of what
            tokens cost; not of how many there are, as in Keras.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: if `kind` is unknown.

    Example:

    >>> logits = np.array([[4.0, -4.0]])  # one exit, two tokens
    >>> agrees = np.array([[True, False]])
    >>> loss = keras_moe.losses.exit_classifier_loss(logits, agrees)
    >>> round(float(loss), 4)
    0.0181
    """
    check_choice(EXIT_CLASSIFIER_LOSSES, kind=kind)
    logits = ops.cast(logits, "float32")
    agrees = ops.cast(agrees, "float32")
    real = ops.ones_like(logits[0])
    if mask is not None:
        real = ops.cast(mask, "float32")
    log_yes, log_no = -ops.softplus(-logits), -ops.softplus(logits)
    if kind == "independent":
        cost, number = _balanced(log_yes, log_no, agrees, real)
    else:
        cost, number = _geometric(log_yes, log_no, agrees, real)
    if sample_weight is not None:
        weights = ops.cast(sample_weight, "float32")
        for _ in range(len(real.shape) - len(weights.shape)):
            weights = ops.expand_dims(weights, -1)
        cost = cost * weights
    tokens = tuple(range(1, len(cost.shape)))
    return ops.mean(ops.sum(cost, axis=tokens) / number)


def _balanced(
    log_yes: Tensor, log_no: Tensor, agrees: Tensor, real: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns what tokens cost at each exit, and what to divide it by."""
    tokens = tuple(range(1, len(agrees.shape)))
    yes, no = agrees * real, (1.0 - agrees) * real
    number = ops.maximum(ops.sum(real), 1.0)
    share = ops.sum(yes, axis=tokens, keepdims=True) / number
    # Class balancing: each label is weighted by the share of the other.
    weight = yes * (1.0 - share) + no * share
    cost = -weight * (agrees * log_yes + (1.0 - agrees) * log_no)
    return cost, ops.maximum(ops.sum(weight, axis=tokens), 1e-12)


def _geometric(
    log_yes: Tensor, log_no: Tensor, agrees: Tensor, real: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns what tokens cost, over all exits, and how many there are."""
    # Log-probability that no lower exit was taken.
    passed = ops.cumsum(log_no, axis=0)
    reached = ops.concatenate([ops.zeros_like(passed[:1]), passed], axis=0)
    log_taken = reached + ops.concatenate(
        [log_yes, ops.zeros_like(passed[:1])], axis=0
    )
    agrees = ops.concatenate([agrees, ops.ones_like(agrees[:1])], axis=0)
    first = ops.cumsum(agrees, axis=0) == 1.0
    first = ops.cast(first, "float32") * agrees
    cost = -ops.sum(first * log_taken, axis=0, keepdims=True)
    return cost * real, ops.maximum(ops.sum(real), 1.0)
