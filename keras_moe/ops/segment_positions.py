"""Positions of packed sequences."""

from keras import ops

from keras_moe.types import Tensor


def segment_positions(segment_ids: Tensor) -> Tensor:
    """Counts positions from the start of each segment.

    Args:
        segment_ids: int `[b, t]`; a segment is a run of equal ids.

    Returns:
        int32 `[b, t]`.

    Example:

    >>> keras_moe.ops.segment_positions(np.array([[1, 1, 1, 2, 2, 0]])).numpy()
    array([[0, 1, 2, 0, 1, 0]], dtype=int32)
    """
    segment_ids = ops.convert_to_tensor(segment_ids)
    position = ops.arange(ops.shape(segment_ids)[1], dtype="int32")
    new = segment_ids[:, 1:] != segment_ids[:, :-1]
    starts = ops.where(new, position[1:], 0)
    starts = ops.concatenate(
        [ops.zeros_like(segment_ids[:, :1], dtype="int32"), starts], axis=1
    )
    return position - ops.associative_scan(ops.maximum, starts, axis=1)
