"""Soft routing: every slot holds a mixture of all tokens."""

from keras import ops

from keras_moe.ops._softmax import softmax
from keras_moe.ops.routing._broken_rows import mark_broken
from keras_moe.ops.routing._broken_rows import split_rows
from keras_moe.ops.routing._checks import check_logits
from keras_moe.ops.routing._checks import check_padding_mask
from keras_moe.ops.routing._soft_routing_plan import SoftRoutingPlan
from keras_moe.types import Tensor


def soft_routing(
    logits: Tensor, padding_mask: Tensor | None = None
) -> SoftRoutingPlan:
    """Plans Soft MoE: slots mix tokens, and tokens mix the slots' outputs.

    Nothing is ever dropped and everything is differentiable; the cost depends
    on the number of slots alone. A slot sees every token of its group: this
    routing must not stand in a causal decoder, and the result for a row
    depends on the rest of its group.

    Source: Soft MoE, arXiv:2308.00951, section 2.1.

    Args:
        logits: `[groups, tokens, experts, slots]`; computed in float32
            whatever the dtype.
        padding_mask: bool `[groups, tokens]`, false for padding, which no slot
            sees and which comes out as zero.

    Returns:
        A `SoftRoutingPlan`.

    Raises:
        ValueError: if `logits` is not of rank 4, or `padding_mask` is not of
            its first two axes.

    Example:

    >>> plan = keras_moe.ops.soft_routing(np.zeros((1, 4, 2, 1)))
    >>> plan.dispatch_weight.numpy()[0, :, 0, 0]  # a mean of the tokens
    array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    logits = ops.convert_to_tensor(logits)
    check_logits(logits, 4, "[groups, tokens, experts, slots]")
    check_padding_mask(padding_mask, logits)
    logits = ops.cast(logits, "float32")
    *groups, tokens, experts, slots = ops.shape(logits)
    real, broken = split_rows(logits, padding_mask, num_score_axes=2)
    # NaN, in padding or elsewhere, would spread to its whole group.
    logits = ops.where(real, logits, -3.4e38)
    dispatch = softmax(logits, axis=-3)
    flat = ops.reshape(logits, (*groups, tokens, experts * slots))
    combine = ops.reshape(softmax(flat), ops.shape(logits))
    # In a group of padding alone, softmax gives equal weights, not zeros.
    dispatch = ops.where(real, dispatch, 0.0)
    combine = ops.where(real, combine, 0.0)
    return SoftRoutingPlan(
        dispatch_weight=dispatch,
        combine_weight=combine,
        probabilities=mark_broken(ops.sum(combine, axis=-1), broken[..., 0]),
    )
