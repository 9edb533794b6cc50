"""Masks of tokens, and refusals of arguments that need pairs of tokens."""

from keras import ops

from keras_moe.layers._float_inputs import check_float
from keras_moe.types import Tensor


def refuse(reason: str, **arguments: object) -> None:
    """Raises `ValueError` for an argument that is given, and not `False`.

    Args:
        reason: why it is refused, with `{name}` for the argument's name.
        **arguments: of a call.
    """
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise ValueError(
                f"{reason.format(name=name)} Received: {name} of type "
                f"{type(value).__name__}."
            )


def refuse_bias(bias: Tensor | None) -> None:
    """Raises `ValueError` for a bias of scores."""
    refuse(
        "Random features have no scores that `bias` could be added to; "
        "positions are for `rotary=True`.",
        bias=bias,
    )


def _refuse_pairs(attention_mask, return_attention_scores: bool) -> None:
    refuse(
        "Random features have no pairs of queries and keys that "
        "`attention_mask` could mask. What they can serve: `query_mask`, "
        "`value_mask` and `key_mask` for padding, `causal=True` or "
        "`use_causal_mask=True`, and `segment_ids`.",
        attention_mask=attention_mask,
    )
    if return_attention_scores:
        raise ValueError(
            "Random features never compute scores. Received: "
            "return_attention_scores=True."
        )


def intersect_masks(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Returns where both masks are true; `None` stands for everywhere."""
    masks = [ops.cast(m, "bool") for m in (mask, other) if m is not None]
    return masks[0] & masks[-1] if masks else None


def visible_pairs(
    attention_mask: Tensor | None,
    value_mask: Tensor | None,
    causal_shape: tuple | None,
) -> Tensor | None:
    """Returns which keys each query sees, `[b, n, t, s]` or broadcast to it.

    Args:
        attention_mask: `[b, t, s]`, one for all heads, as of Keras's attention;
            or broadcast to `[b, n, t, s]`.
        value_mask: `[b, s]`, false for padding.
        causal_shape: t and s, if queries see no later keys.
    """
    visible = None
    if attention_mask is not None:
        visible = ops.cast(attention_mask, "bool")
        if len(visible.shape) == 3:
            # Else rows of the batch would be taken for heads.
            visible = ops.expand_dims(visible, 1)
    visible = intersect_masks(visible, by_time(value_mask))
    if causal_shape is not None:
        row, column = (ops.arange(length) for length in causal_shape)
        causal = ops.expand_dims(row, 1) >= ops.expand_dims(column, 0)
        visible = intersect_masks(visible, ops.expand_dims(causal, (0, 1)))
    return visible


def zero_where_masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Returns `[b, t, dim]` with zeros where `mask` is false, even for NaN."""
    if mask is None:
        return x
    return ops.where(ops.cast(mask, "bool")[..., None], x, 0)


def by_time(mask: Tensor | None) -> Tensor | None:
    """Returns bool `[b, 1, 1, t]` for `[b, t]`, the shape that heads take."""
    if mask is None:
        return None
    return ops.cast(mask, "bool")[:, None, None, :]


def zero_rows(attended: Tensor, rows: Tensor | None) -> Tensor:
    """Returns `[b, n, g, t, dim]` with zeros where `rows` is false."""
    if rows is None:
        return attended
    return ops.where(rows[..., None], attended, 0.0)


def check_call(
    query: Tensor,
    value: Tensor,
    key: Tensor | None,
    attention_mask: Tensor | None,
    return_attention_scores: bool,
    one_length: bool,
    bias: Tensor | None = None,
) -> None:
    """Raises `ValueError` for what random features cannot serve."""
    check_float(query=query, value=value, key=key)
    refuse_bias(bias)
    _refuse_pairs(attention_mask, return_attention_scores)
    key = value if key is None else key
    shapes = {"query": query.shape, "value": value.shape, "key": key.shape}
    received = ", ".join(f"{k}.shape={tuple(s)}" for k, s in shapes.items())
    if any(len(shape) != 3 for shape in shapes.values()):
        raise ValueError(
            "Query, value and key must have the shape (batch, length, "
            f"dim). Received: {received}."
        )
    if key.shape[1] != value.shape[1]:
        raise ValueError(
            f"There must be as many keys as values. Received: {received}."
        )
    if one_length and query.shape[1] != value.shape[1]:
        raise ValueError(
            "Causal attention and `segment_ids` are for self-attention, "
            f"with as many keys as queries. Received: {received}."
        )
