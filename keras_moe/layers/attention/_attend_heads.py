"""Softmax attention of projected heads."""

from collections.abc import Callable

from keras import ops

from keras_moe.backend import batched_product
from keras_moe.backend import rows_in_halves
from keras_moe.backend import runs_side_by_side
from keras_moe.ops._softmax import softmax
from keras_moe.types import Tensor


def attend_heads(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    bias: Tensor | None,
    attention_mask: Tensor | None,
    dropout: Callable[[Tensor], Tensor],
    keys_are_turned: bool = False,
) -> Tensor:
    """Returns the attended values, `[b, h, q, d]`.

    The rows of a decoding step are computed in halves where operations run
    side by side: one core would read all keys and values.

    b = batch, h = head, q = query, k = key.

    Args:
        queries: `[b, h, q, d]`.
        keys: `[b, h, k, d]`.
        values: `[b, h, k, d]`.
        bias: added to the scores; broadcast to `[b, h, q, k]`.
        attention_mask: bool, broadcast to `[b, h, q, k]`; false hides a key.
        dropout: of the weights.
        keys_are_turned: whether keys are `[b, h, d, k]`.
    """

    def attend(queries, keys, values, mask):
        scores = batched_product(queries, keys, transpose_y=not keys_are_turned)
        scores = ops.cast(scores, "float32")
        if bias is not None:
            scores = scores + ops.cast(bias, "float32")
        if mask is not None:
            scores = ops.where(mask, scores, -1e9)
        weights = dropout(ops.cast(softmax(scores), values.dtype))
        return batched_product(weights, values)

    arrays = (queries, keys, values, attention_mask)
    if not _is_halved(queries, bias, attention_mask):
        return attend(*arrays)
    return rows_in_halves(attend, *arrays)


def _is_halved(
    queries: Tensor, bias: Tensor | None, mask: Tensor | None
) -> bool:
    if queries.shape[2] != 1 or queries.shape[0] == 1:
        return False
    # Those of a step have one row for all, or one for each.
    if bias is not None and len(bias.shape) == 4:
        return False
    return (mask is None or len(mask.shape) == 4) and runs_side_by_side()
