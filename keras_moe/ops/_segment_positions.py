"""Positions of packed sequences."""

from keras import ops

from keras_moe.types import Tensor


def segment_positions(segment_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Counts segments, and positions from the start of each.

    Args:
        segment_ids: int `[b, t]`; a segment is a run of equal ids.

    Returns:
        The number of the segment and the position within it, int32 `[b, t]`,
        both from 0.

    Example:

    >>> ids = np.array([[1, 1, 1, 2, 2, 1]])
    >>> numbers, positions = keras_moe.ops.segment_positions(ids)
    >>> numbers.numpy()
    array([[0, 0, 0, 1, 1, 2]], dtype=int32)
    >>> positions.numpy()
    array([[0, 1, 2, 0, 1, 0]], dtype=int32)
    """
    segment_ids = ops.convert_to_tensor(segment_ids)
    position = ops.arange(ops.shape(segment_ids)[1], dtype="int32")
    new = segment_ids[:, 1:] != segment_ids[:, :-1]
    new = ops.cast(new, "int32")
    first = ops.zeros_like(segment_ids[:, :1], dtype="int32")
    number = ops.cumsum(ops.concatenate([first, new], axis=1), axis=1)
    starts = ops.concatenate([first, new * position[1:]], axis=1)
    return number, position - ops.associative_scan(ops.maximum, starts, axis=1)
