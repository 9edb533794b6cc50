"""Weights that take the bias out of a teacher's wrong labels."""

import numpy as np


def debiasing_weights(
    error_rate: np.ndarray, distortion: np.ndarray
) -> np.ndarray:
    """Returns weighted distillation's weights of pseudo-labels.

    Where a teacher's label is wrong with probability p, and a wrong label costs
    the student d times what the right one does, the loss is `1 + p (d - 1)`
    times too large on average. `w = 1 / (1 + p (d - 1))` undoes that, for
    `sample_weight`.

    Both belong to an example and are estimated on labelled ones that neither
    model has learned from, such as the nearest in the margins of teacher and
    student; d is the student's, and changes while it learns. See the guide on
    data for an estimate, and for filtering by confidence, which is simpler and
    often as good.

    Source: [Iliopoulos et al., 2022](https://arxiv.org/abs/2210.06711).

    Args:
        error_rate: `[...]`, p, in [0, 1], such as
            `1 - TeacherAccuracy(...)(teacher_logits)`.
        distortion: `[...]`, d: the student's loss against the wrong label over
            that against the right one, positive.

    Returns:
        float64 `[...]`, positive.

    Raises:
        ValueError: if an argument is out of its range or no number, or the
            shapes do not fit.

    Example:

    >>> keras_moe.distillation.debiasing_weights(
    ...     error_rate=np.array([0.0, 0.2, 0.2]),
    ...     distortion=np.array([5.0, 1.0, 6.0]),
    ... )
    array([1. , 1. , 0.5])
    """
    p = np.asarray(error_rate, "float64")
    d = np.asarray(distortion, "float64")
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError(
            "`error_rate` must be in [0, 1]. Received: "
            f"{_first(p, (p >= 0.0) & (p <= 1.0))}."
        )
    if not (np.isfinite(d) & (d > 0.0)).all():
        raise ValueError(
            "`distortion` must be positive numbers. Received: "
            f"{_first(d, np.isfinite(d) & (d > 0.0))}."
        )
    try:
        # Without `d - 1`, in which a small d would be lost, and 1 / 0 be left.
        return 1.0 / (1.0 - p + p * d)
    except ValueError as error:
        raise ValueError(
            "`error_rate` and `distortion` must be of shapes that fit. "
            f"Received: {p.shape} and {d.shape}."
        ) from error


def _first(values: np.ndarray, good: np.ndarray) -> float:
    return float(values[~good].reshape(-1)[0])
