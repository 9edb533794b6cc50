"""What a deferral rule sees of a stage's outputs."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_moe.types import Tensor

_BEST = 10  # of a ranking, whose candidates have no identity
_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75)
_TINY = 1e-7
TOKENS = ("token_ids", "token_log_probability")


def class_features(outputs: Tensor, from_logits: bool) -> tuple[Tensor, Tensor]:
    """Returns features of a classifier's answers, and its confidence.

    Args:
        outputs: probabilities or logits, `[n, classes]`.
        from_logits: whether they are logits.

    Returns:
        float32 `[n, classes + 3]`: the log probability of each class, the
        greatest probability, its distance from the second, the entropy; and
        the greatest probability, `[n]`. NaN where a row is not finite.
    """
    p = ops.cast(outputs, "float32")
    if from_logits:
        p = ops.softmax(p, axis=-1)
    log_p = ops.log(ops.maximum(p, _TINY))
    return _with_summary([log_p], p, log_p)


def ranking_features(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Returns features of a ranker's answers, and its confidence.

    Args:
        scores: logits `[n, candidates]`, minus infinity where there is none.

    Returns:
        float32 `[n, 13]`: of the softmax the ten greatest (0 where there are
        fewer), the greatest, its distance from the second, the entropy; and
        the greatest, `[n]`. NaN where a row is not finite, or empty.
    """
    p = ops.softmax(ops.cast(scores, "float32"), axis=-1)
    kept = min(_BEST, p.shape[-1])
    best = ops.pad(ops.top_k(p, kept)[0], [[0, 0], [0, _BEST - kept]])
    return _with_summary([best], p, ops.log(ops.maximum(p, _TINY)))


def token_features(
    answers: Mapping[str, Tensor], pad_id: int, by: str
) -> tuple[Tensor, Tensor]:
    """Returns features of generated sequences, and their confidence.

    Args:
        answers: with `token_ids`, int `[n, length]`, and
            `token_log_probability`, float `[n, length]`.
        pad_id: id of what is no token.
        by: what the confidence is, `"sum"` or `"mean"`.

    Returns:
        float32 `[n, 8]`: number of tokens, sum and mean of their log
        probabilities, and five quantiles; and the confidence `[n]`, at most
        0. NaN where a log probability is; 0 where there are no tokens.
    """
    ids, log_p = (answers[name] for name in TOKENS)
    real = ops.not_equal(ids, pad_id)
    log_p = ops.cast(log_p, "float32")
    # Padding is added as well: of a row that is not finite, all tokens may be.
    total = ops.sum(log_p, axis=-1)
    count = ops.sum(ops.cast(real, "int32"), axis=-1)
    count_f = ops.cast(count, "float32")
    mean = total / ops.maximum(count_f, 1.0)
    ordered = ops.sort(ops.where(real, log_p, float("inf")), axis=-1)
    columns = [count_f, total, mean]
    for quantile in _QUANTILES:
        place = ops.floor(quantile * ops.maximum(count_f - 1.0, 0.0))
        place = ops.expand_dims(ops.cast(place, "int32"), -1)
        value = ops.squeeze(ops.take_along_axis(ordered, place, axis=-1), -1)
        columns.append(ops.where(count > 0, value, 0.0))
    features = ops.stack(columns, axis=-1)
    return features, total if by == "sum" else mean


def check_probabilities(name: str, outputs: Any) -> None:
    """Raises `ValueError` unless finite rows of outputs are probabilities."""
    values = keras.ops.convert_to_numpy(outputs)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(
            f"`{name}` must have the shape (n, classes), with two classes at "
            f"least. Received: {name}.shape={values.shape}."
        )
    sums = values.astype("float64").sum(axis=1)
    off = abs(sums - 1.0) > 1e-2
    negative = (values < 0.0).any(axis=1)
    wrong = (off | negative) & (abs(sums) < float("inf"))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"`{name}` must be probabilities, such as a softmax of logits. "
            f"Received: row {row} with the sum {sums[row]:g}."
        )


def _with_summary(
    columns: list[Tensor], p: Tensor, log_p: Tensor
) -> tuple[Tensor, Tensor]:
    two = ops.top_k(p, 2)[0]
    # A maximum leaves NaN out on some devices; a sum never does.
    spoiled = 0.0 * ops.sum(p, axis=-1)
    confidence = two[:, 0] + spoiled
    margin = confidence - two[:, 1]
    entropy = -ops.sum(p * log_p, axis=-1)
    summary = ops.stack([confidence, margin, entropy], axis=-1)
    return ops.concatenate([*columns, summary], axis=-1), confidence
