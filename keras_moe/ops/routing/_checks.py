"""Checks of what all routing takes: logits, padding and capacity."""

import numbers

from keras import ops

from keras_moe.sharding import is_sharded
from keras_moe.types import Tensor


def check_logits(logits: Tensor, rank: int, axes: str) -> None:
    """Raises `ValueError` unless `logits` has as many axes."""
    # Groups that are spread over two mesh axes have two axes.
    ranks = (rank, rank + 1) if is_sharded() else (rank,)
    if len(logits.shape) not in ranks:
        raise ValueError(
            f"`logits` must have the shape {axes}. "
            f"Received: logits.shape={tuple(logits.shape)}."
        )


def check_padding_mask(padding_mask: Tensor | None, logits: Tensor) -> None:
    """Raises `ValueError` unless the mask has the first axes of `logits`.

    Sizes that are unknown pass.
    """
    if padding_mask is None:
        return
    received = tuple(ops.shape(padding_mask))
    rank = len(received) if is_sharded() else 2
    wanted = tuple(logits.shape[:rank])
    if len(received) != rank or any(
        one is not None and other is not None and one != other
        for one, other in zip(received, wanted, strict=True)
    ):
        raise ValueError(
            f"`padding_mask` must have the shape [groups, tokens], {wanted}. "
            f"Received: padding_mask.shape={received}."
        )


def check_capacity(expert_capacity: int | Tensor | None) -> None:
    """Raises `ValueError` for a static capacity below 1, or a fraction."""
    if isinstance(expert_capacity, numbers.Number) and not (
        isinstance(expert_capacity, numbers.Integral)
        and int(expert_capacity) >= 1
    ):
        raise ValueError(
            "`expert_capacity` must be an integer of at least 1, or None for "
            f"dropless routing. Received: expert_capacity={expert_capacity}."
        )
