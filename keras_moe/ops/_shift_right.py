"""Teacher forcing."""

from keras import ops

from keras_moe.types import Tensor


def shift_right(targets: Tensor, start_id: int = 0) -> Tensor:
    """Returns the decoder's input for teacher-forced training.

    Args:
        targets: int `(batch, length)`.
        start_id: the id that the decoder starts from.

    Example:

    >>> keras_moe.ops.shift_right([[5, 6, 1]]).numpy()
    array([[0, 5, 6]], dtype=int32)
    """
    targets = ops.convert_to_tensor(targets)
    return ops.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=start_id)
