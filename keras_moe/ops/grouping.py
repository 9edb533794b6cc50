"""Cutting a batch of sequences into groups of tokens that route together."""

from keras import ops

from keras_moe.types import Tensor


def group_tokens(
    inputs: Tensor, padding_mask: Tensor | None, group_size: int | None
) -> tuple[Tensor, Tensor | None]:
    """Flattens all axes but the last into `[groups, tokens, dim]`.

    Args:
        inputs: `[batch, ..., dim]`.
        padding_mask: bool `[batch, ...]` or `None`.
        group_size: tokens of a group; the last group is filled up with
            padding. `None` makes one group of the whole batch.

    Returns:
        The grouped tokens, and the mask `[groups, tokens]` (`None` only if
        none was given and nothing was filled up).
    """
    dim = inputs.shape[-1]
    tokens = ops.reshape(inputs, (-1, dim))
    mask = None
    if padding_mask is not None:
        mask = ops.reshape(ops.cast(padding_mask, "bool"), (-1,))
    count = ops.shape(tokens)[0]
    if group_size is None:
        mask = mask if mask is None else ops.expand_dims(mask, 0)
        return ops.expand_dims(tokens, 0), mask
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
    """Undoes `group_tokens`: `[groups, tokens, dim]` to the shape of `like`."""
    shape = ops.shape(like)
    dim = grouped.shape[-1]
    count = 1
    for size in shape[:-1]:
        count = count * size
    tokens = ops.reshape(grouped, (-1, dim))[:count]
    return ops.reshape(tokens, tuple(shape[:-1]) + (dim,))
