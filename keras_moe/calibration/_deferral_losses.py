"""What two stages get wrong, row by row."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_moe.calibration._deferral_features import TOKENS

Loss = Callable[[Any, Any], Any]


class DeferralLosses(NamedTuple):
    """Losses of both stages on the same rows.

    Attributes:
        small: of the stage that may defer, float64 `[n]`, in [0, 1].
        large: of the stage it defers to.
        probability_gain: by how much the large stage gives the right class
            more, `[n]`; zeros for tokens.
    """

    small: np.ndarray
    large: np.ndarray
    probability_gain: np.ndarray


def deferral_losses(
    small_outputs: Any,
    large_outputs: Any,
    labels: Any,
    kind: str,
    loss: Loss | None,
) -> DeferralLosses:
    """Returns the losses; raises `ValueError` where outputs do not fit.

    Args:
        small_outputs: of the stage that may defer.
        large_outputs: of the stage it defers to.
        labels: see `keras_moe.calibration.DeferralRule.fit`.
        kind: of the outputs, see there.
        loss: of outputs and labels; `None` for whether the greatest output is
            not the label's.
    """
    if kind == "tokens":
        if loss is None:
            raise ValueError(
                "`loss` must be given for tokens: how wrong a sequence is "
                "depends on the task. Received: loss=None."
            )
        n = len(labels)
        for name, outputs in (
            ("small_outputs", small_outputs),
            ("large_outputs", large_outputs),
        ):
            _check_answers(name, outputs, n)
        gain = np.zeros(n)
    else:
        # Differences of small integers would wrap.
        small_outputs, large_outputs = (
            ops.convert_to_numpy(outputs).astype("float64")
            for outputs in (small_outputs, large_outputs)
        )
        labels = _check_labels(small_outputs, large_outputs, labels)
        n = len(labels)
        rows = np.arange(n)
        gain = (
            _probabilities(large_outputs, kind)[rows, labels]
            - _probabilities(small_outputs, kind)[rows, labels]
        )
    loss = loss or _is_wrong
    small = _losses(loss, small_outputs, labels, n)
    large = _losses(loss, large_outputs, labels, n)
    return DeferralLosses(small, large, np.asarray(gain, "float64"))


def _check_labels(small: np.ndarray, large: np.ndarray, labels: Any):
    labels = np.asarray(labels)
    if small.ndim != 2 or small.shape != large.shape:
        raise ValueError(
            "Both stages must give outputs (n, classes), of the same classes. "
            f"Received: {small.shape} and {large.shape}."
        )
    if labels.shape != small.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"`labels` must be integers of the shape {small.shape[:1]}. "
            f"Received: {labels.dtype} {labels.shape}."
        )
    if not len(labels):
        raise ValueError("`labels` must have rows. Received: none.")
    if labels.min() < 0 or labels.max() >= small.shape[1]:
        raise ValueError(
            f"`labels` must be from 0 to {small.shape[1] - 1}. Received: "
            f"{labels.min()} to {labels.max()}."
        )
    if labels.min() == labels.max():
        raise ValueError(
            "`labels` must have two values at least: of one alone nothing can "
            f"be learned. Received: {labels.min()} throughout."
        )
    return labels


def _check_answers(name: str, outputs: Any, n: int) -> None:
    wanted = TOKENS if name == "small_outputs" else TOKENS[:1]
    missing = [
        key
        for key in wanted
        if not isinstance(outputs, Mapping) or key not in outputs
    ]
    if missing:
        raise ValueError(
            f"`{name}` must be what `generate` returned, with {wanted}. "
            f"Missing: {missing}."
        )
    if not n or len(outputs["token_ids"]) != n:
        raise ValueError(
            f"`{name}` must have a row for each of `labels`, {n}. Received: "
            f"{len(outputs['token_ids'])}."
        )


def _is_wrong(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns 1 where the label's output is not the only greatest."""
    own = np.take_along_axis(outputs, labels[:, None], axis=1)
    others = outputs.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    # Not `<=`: of NaN both would be false, and a broken answer right.
    return ~(own[:, 0] > others.max(axis=1))


def _probabilities(outputs: np.ndarray, kind: str) -> np.ndarray:
    if kind == "probabilities":
        return outputs
    return ops.convert_to_numpy(ops.softmax(outputs.astype("float32"), axis=-1))


def _losses(loss: Loss, outputs: Any, labels: Any, n: int) -> np.ndarray:
    losses = np.asarray(loss(outputs, labels), "float64")
    if losses.shape != (n,):
        raise ValueError(
            "`loss` must return one number for each row, of the shape "
            f"({n},). Received: {losses.shape}."
        )
    if not ((losses >= 0.0) & (losses <= 1.0)).all():
        raise ValueError(
            "`loss` must return numbers from 0 to 1. Received: "
            f"{losses.min()} to {losses.max()}."
        )
    return losses
