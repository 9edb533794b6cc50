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


def by_time(mask: Tensor | None) -> Tensor | None:
    """Returns bool `[b, 1, 1, t]` for `[b, t]`."""
    if mask is None:
        return None
    return ops.cast(mask, "bool")[:, None, None, :]


def zero_rows(attended: Tensor, rows: Tensor | None) -> Tensor:
    """Returns `[b, n, g, t, dim]` with zeros where `rows` is false."""
    if rows is None:
        return attended
    return ops.where(rows[..., None], attended, 0.0)
