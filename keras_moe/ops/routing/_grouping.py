"""Cutting a batch of sequences into groups of tokens that route together."""

from keras import ops

from keras_moe.types import Tensor


def group_tokens(
    inputs: Tensor,
    padding_mask: Tensor | None,
    group_size: int | Tensor | str | None,
) -> tuple[Tensor, Tensor | None]:
    """Flattens all axes but the last into `[groups, tokens, dim]`.

    Args:
        inputs: `[batch, ..., dim]`.
        padding_mask: bool `[batch, ...]` or `None`.
        group_size: tokens of a group; the last group is filled up with
            padding. An int, or an int32 scalar tensor. `None` makes one group
            of the whole batch, `"sequence"` one of each row.

    Returns:
        The grouped tokens, and the mask `[groups, tokens]` (`None` only if
        none was given and nothing was filled up).

    Example:

    >>> grouped, mask = keras_moe.ops.group_tokens(np.ones([2, 5, 3]), None, 4)
    >>> grouped.shape, int(np.sum(mask))  # ten tokens, and two of padding
    (TensorShape([3, 4, 3]), 10)
    """
    dim = inputs.shape[-1]
    tokens = ops.reshape(inputs, (-1, dim))
    mask = None
    if padding_mask is not None:
        mask = ops.reshape(ops.cast(padding_mask, "bool"), (-1,))
    count = ops.shape(tokens)[0]
    by_row = isinstance(group_size, str)
    if group_size is None or (by_row and len(inputs.shape) == 2):
        mask = mask if mask is None else ops.expand_dims(mask, 0)
        return ops.expand_dims(tokens, 0), mask
    if by_row:
        rows, length = ops.shape(inputs)[0], _product(ops.shape(inputs)[1:-1])
        mask = mask if mask is None else ops.reshape(mask, (rows, length))
        return ops.reshape(tokens, (rows, length, dim)), mask
    missing = -count % group_size
    if not (isinstance(missing, int) and missing == 0):
        if mask is None:
            mask = ops.ones((count,), dtype="bool")
        tokens = ops.pad(tokens, ((0, missing), (0, 0)))
        mask = ops.pad(mask, ((0, missing),), constant_values=False)
    if mask is not None:
        mask = ops.reshape(mask, (-1, group_size))
    return ops.reshape(tokens, (-1, group_size, dim)), mask


def ungroup_tokens(grouped: Tensor, like: Tensor) -> Tensor:
    """Undoes `group_tokens`: `[groups, tokens, dim]` to the shape of `like`.

    Example:

    >>> inputs = np.random.rand(2, 5, 3)
    >>> grouped, _ = keras_moe.ops.group_tokens(inputs, None, 4)
    >>> restored = keras_moe.ops.ungroup_tokens(grouped, inputs)
    >>> bool((restored == inputs).numpy().all())
    True
    """
    shape = ops.shape(like)
    dim = grouped.shape[-1]
    tokens = ops.reshape(grouped, (-1, dim))[: _product(shape[:-1])]
    return ops.reshape(tokens, tuple(shape[:-1]) + (dim,))


def _product(sizes: tuple[int | Tensor, ...]) -> int | Tensor:
    result = 1
    for size in sizes:
        result = result * size
    return result
