"""Sources of few shapes, each of which XLA compiles a program for."""

from keras import ops

from keras_moe.types import Tensor

# Shorter sources than this cost no less.
_LEAST_LENGTH = 8


def padded_ids(token_ids: Tensor, pad_id: int, pad_length: bool) -> Tensor:
    """Returns sources with rows and positions of padding, up to round numbers.

    The number of rows becomes the next power of two, and so does the length, at
    least 8: a program for each shape that comes along would take seconds of
    compiling again and again. Shapes that are unknown are left alone.

    Args:
        token_ids: int `(batch, source_length)`.
        pad_id: the id of padding.
        pad_length: whether to pad the length as well, which changes the answers
            of models whose routing depends on it.
    """
    rows, length = ops.shape(token_ids)
    if not (isinstance(rows, int) and isinstance(length, int)):
        return token_ids
    more_rows = _power_of_two(rows) - rows
    more = 0
    if pad_length:
        more = max(_LEAST_LENGTH, _power_of_two(length)) - length
    return ops.pad(
        token_ids, ((0, more_rows), (0, more)), constant_values=pad_id
    )


def _power_of_two(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()
