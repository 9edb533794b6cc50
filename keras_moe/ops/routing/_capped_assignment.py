"""Experts take tokens, and no token is taken by more than a few of them."""

import math

from keras import ops

from keras_moe.types import Tensor

# Finite stand-in for minus infinity: the score of padding, and the logarithm of
# its entries.
_NOTHING = -1e30
# The entropy weight falls from this value, which suits scores that are at most
# 1 apart.
_FIRST_ENTROPY_WEIGHT = 0.1


def capped_assignment(
    scores: Tensor,
    expert_capacity: int | Tensor,
    max_experts_per_token: int,
    padding_mask: Tensor | None = None,
    entropy_weight: float = 0.001,
    num_iterations: int = 300,
) -> Tensor:
    """Solves the regularised linear program of capped expert choice.

    Maximises `sum(scores * A) + entropy_weight * H(A)`, H the entropy, where
    each expert's entries sum to `expert_capacity`, each token's to at most
    `max_experts_per_token`, and every entry lies in [0, 1]; by Dykstra's
    alternating projections in the Kullback-Leibler geometry. They work on the
    logarithm, so that no entropy weight is too small for float32, and start
    with a larger weight that falls to the given one: far fewer rounds get as
    close to the optimum.

    Source: Expert Choice, arXiv:2202.09368, section 3.3.

    Args:
        scores: float32 `[groups, tokens, experts]`, between 0 and 1.
        expert_capacity: tokens that an expert takes. Where the tokens cannot
            fill so many slots, what they can fill.
        max_experts_per_token: most experts that take one token.
        padding_mask: bool `[groups, tokens]`, false for padding, whose entries
            are 0.
        entropy_weight: smaller is closer to the linear program and slower to
            converge.
        num_iterations: rounds of the three projections. With the default the
            sums are within a few percent of what is asked for where every
            token is wanted by several experts, and closer elsewhere.

    Returns:
        float32 `[groups, tokens, experts]`, A; no gradient passes.

    Example:

    >>> scores = np.array([[[0.9, 0.8], [0.1, 0.2], [0.0, 0.1]]])
    >>> assigned = keras_moe.ops.capped_assignment(scores, 1, 1)
    >>> np.round(assigned[0], 2)
    array([[1., 0.],
           [0., 1.],
           [0., 0.]], dtype=float32)
    """
    return ops.exp(
        log_capped_assignment(
            scores,
            expert_capacity,
            max_experts_per_token,
            padding_mask,
            entropy_weight,
            num_iterations,
        )
    )


def log_capped_assignment(
    scores: Tensor,
    expert_capacity: int | Tensor,
    max_experts_per_token: int,
    padding_mask: Tensor | None = None,
    entropy_weight: float = 0.001,
    num_iterations: int = 300,
) -> Tensor:
    """Returns the logarithm of `capped_assignment`.

    It ranks even where the assignment itself is too small for float32.
    """
    scores = ops.stop_gradient(ops.cast(scores, "float32"))
    num_experts = scores.shape[-1]
    limit = min(max_experts_per_token, num_experts)
    if padding_mask is None:
        real = ops.ones_like(scores[..., :1], dtype="bool")
    else:
        real = ops.expand_dims(ops.cast(padding_mask, "bool"), -1)
    # Scores of padding are finite: the difference of two infinite ones is NaN.
    scores = ops.where(real, scores, _NOTHING)
    count = ops.sum(ops.cast(real, "float32"), axis=-2, keepdims=True)
    # An expert's share, [g, 1, 1]: tokens fill no more slots than they ask for.
    share = ops.minimum(
        ops.cast(expert_capacity, "float32"), count * limit / num_experts
    )
    log_share = ops.log(ops.maximum(share, 1e-30))
    log_limit = math.log(limit)
    first = max(_FIRST_ENTROPY_WEIGHT, entropy_weight)
    falling = max(1, round(0.9 * num_iterations))

    def project(step, prices):
        """Sets the price, in units of score, of each constraint in turn."""
        of_expert, of_token, of_entry = prices
        progress = ops.minimum(ops.cast(step, "float32") / falling, 1.0)
        weight = first * (entropy_weight / first) ** progress
        # Each expert's entries sum to its share.
        left = (scores - of_token - of_entry) / weight
        total = ops.logsumexp(left, axis=-2, keepdims=True)
        of_expert = weight * (total - log_share)
        # Each token's entries sum to the limit at most.
        left = (scores - of_expert - of_entry) / weight
        total = ops.logsumexp(left, axis=-1, keepdims=True)
        of_token = ops.maximum(weight * (total - log_limit), 0.0)
        # Each entry is 1 at most.
        of_entry = ops.maximum(scores - of_expert - of_token, 0.0)
        return of_expert, of_token, of_entry

    prices = (
        ops.zeros_like(scores[..., :1, :]),
        ops.zeros_like(scores[..., :1]),
        ops.zeros_like(scores),
    )
    prices = ops.fori_loop(0, num_iterations, project, prices)
    of_expert, of_token, of_entry = prices
    assigned = (scores - of_expert - of_token - of_entry) / entropy_weight
    assigned = ops.where(real, ops.minimum(assigned, 0.0), _NOTHING)
    return ops.stop_gradient(assigned)
