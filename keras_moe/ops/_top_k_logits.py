"""Logits in a few bytes: the likeliest tokens, and how likely they are."""

import math

from keras import ops

from keras_moe.types import Tensor
from keras_moe.validation import check_choice

TAILS = ("uniform", "drop")


def compress_logits(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the `k` likeliest tokens and their log-probabilities.

    Args:
        logits: `[..., vocabulary]`.
        k: how many tokens to keep, at most the vocabulary.

    Returns:
        int32 `[..., k]` ids, the likeliest first, and their float32
        `[..., k]` log-probabilities among all tokens.

    Raises:
        ValueError: if `k` is not from 1 to the size of the vocabulary.

    Example:

    >>> logits = np.log([[0.1, 0.6, 0.3]])
    >>> ids, log_p = keras_moe.ops.compress_logits(logits, k=2)
    >>> print(np.array(ids), np.exp(log_p).round(4))
    [[1 2]] [[0.6 0.3]]
    """
    vocabulary = logits.shape[-1]
    if not 1 <= k <= vocabulary:
        raise ValueError(
            f"`k` must be from 1 to the vocabulary's {vocabulary}. Received: "
            f"k={k}."
        )
    log_p = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    values, ids = ops.top_k(log_p, k)
    return ops.cast(ids, "int32"), values


def expand_logits(
    token_ids: Tensor,
    log_probabilities: Tensor,
    vocabulary_size: int,
    tail: str = "uniform",
) -> Tensor:
    """Returns logits for what `compress_logits` kept.

    What the likeliest tokens leave of the probability goes to the others, to
    each alike (`"uniform"`), or is given up (`"drop"`), which makes the kept
    ones too likely. With all tokens kept, both give the logits back (less
    their log-sum-exp).

    Args:
        token_ids: int `[..., k]`, distinct.
        log_probabilities: `[..., k]`.
        vocabulary_size: number of tokens.
        tail: `"uniform"` or `"drop"`.

    Returns:
        float32 `[..., vocabulary]`, log-probabilities; minus infinity for
        tokens of no probability. No gradient is defined through it.

    Raises:
        ValueError: if `tail` is unknown, or there are more tokens than the
            vocabulary has.

    Example:

    >>> ids, log_p = np.array([[1]]), np.log([[0.6]])
    >>> logits = keras_moe.ops.expand_logits(ids, log_p, vocabulary_size=3)
    >>> print(np.exp(logits).round(4))
    [[0.2 0.6 0.2]]
    """
    check_choice(TAILS, tail=tail)
    k = token_ids.shape[-1]
    if k > vocabulary_size:
        raise ValueError(
            "`token_ids` must hold at most as many tokens as the vocabulary. "
            f"Received: {k} of vocabulary_size={vocabulary_size}."
        )
    token_ids = ops.cast(token_ids, "int32")
    log_p = ops.cast(log_probabilities, "float32")
    kept = ops.logsumexp(log_p, axis=-1, keepdims=True)
    if tail == "drop" or k == vocabulary_size:
        log_p = log_p - kept
        rest = ops.full_like(kept, -math.inf)
    else:
        # Rounding may carry `exp(kept)` to 1 or above: the logarithm of the
        # rest must stay finite.
        left = ops.maximum(1.0 - ops.exp(kept), 1e-12)
        rest = ops.log(left / (vocabulary_size - k))
    rows = ops.reshape(log_p, (-1, k))
    number = ops.shape(rows)[0]
    row = ops.repeat(ops.arange(number, dtype="int32"), k)
    column = ops.reshape(token_ids, (-1,))
    flat = ops.scatter_update(
        ops.repeat(ops.reshape(rest, (-1,)), vocabulary_size),
        ops.expand_dims(row * vocabulary_size + column, -1),
        ops.reshape(rows, (-1,)),
    )
    shape = (*ops.shape(token_ids)[:-1], vocabulary_size)
    return ops.reshape(flat, shape)
