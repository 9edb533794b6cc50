"""Masks of tokens, as linear attention takes them."""

from keras import ops

from keras_moe.types import Tensor


def refuse_pairs(attention_mask, return_attention_scores: bool) -> None:
    """Raises `ValueError` for what random features cannot serve."""
    if attention_mask is not None:
        raise ValueError(
            "Random features have no pairs of queries and keys that "
            "`attention_mask` could mask. What they can serve: `query_mask`, "
            "`value_mask` and `key_mask` for padding, `causal=True` or "
            "`use_causal_mask=True`, and `segment_ids`. Received: "
            f"attention_mask of shape {tuple(attention_mask.shape)}."
        )
    if return_attention_scores:
        raise ValueError(
            "Random features never compute scores. Received: "
            "return_attention_scores=True."
        )


def both(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Returns where both masks are true; `None` stands for everywhere."""
    masks = [ops.cast(m, "bool") for m in (mask, other) if m is not None]
    return masks[0] & masks[-1] if masks else None


def hide(x: Tensor, mask: Tensor | None) -> Tensor:
    """Returns zeros for what is masked, whatever it holds."""
    if mask is None:
        return x
    return ops.where(ops.cast(mask, "bool")[..., None], x, 0)


def by_time(mask: Tensor | None, x: Tensor) -> Tensor:
    """Returns bool `[b, 1, 1, t]`; all of `x` is visible without a mask."""
    if mask is None:
        mask = ops.ones(ops.shape(x)[:2], dtype="bool")
    return ops.cast(mask, "bool")[:, None, None, :]
