"""Teacher forcing."""

from keras import ops

from keras_moe.ops._token_ids import IGNORE_ID
from keras_moe.ops._token_ids import read_ids
from keras_moe.types import Tensor


def shift_right(
    targets: Tensor,
    start_id: int = 0,
    pad_id: int = 0,
    ignore_id: int | None = IGNORE_ID,
) -> Tensor:
    """Returns the decoder's input for teacher-forced training.

    Args:
        targets: int `(batch, length)`.
        start_id: the id that the decoder starts from.
        pad_id: the id of padding, which stands where `targets` have
            `ignore_id`.
        ignore_id: the label of positions without a target, which no table of
            embeddings has; `None` if there is none.

    Raises:
        ValueError: if another id is negative or not whole, when eager.

    Example:

    >>> keras_moe.ops.shift_right([[5, 6, 1]]).numpy()
    array([[0, 5, 6]], dtype=int32)
    """
    targets = ops.convert_to_tensor(targets)
    read = read_ids(targets, None, (pad_id, ignore_id), name="targets")
    padding = ops.full_like(targets, pad_id)
    targets = ops.where(read.left_out, padding, targets)
    return ops.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=start_id)
