"""The plan of a router that mixes tokens instead of choosing among them."""

from typing import NamedTuple

from keras_moe.types import Tensor


class SoftRoutingPlan(NamedTuple):
    """How much of each token every slot holds, and gives back.

    No slot belongs to one token, so there is no slot table: only the einsum
    executor can carry this plan out.

    Attributes:
        dispatch_weight: float32 `[g, s, e, c]`, the share of token s in slot c
            of expert e; sums to 1 over the tokens.
        combine_weight: float32 `[g, s, e, c]`, the share of that slot's output
            in the token's; sums to 1 over experts and slots, and is 0 for
            padding.
        probabilities: float32 `[g, s, e]`, `combine_weight` summed over slots;
            NaN for a token whose scores are, which is mixed into no slot.

    Example:

    >>> plan = keras_moe.ops.soft_routing(np.random.rand(1, 4, 2, 1))
    >>> shares = plan.dispatch_weight.numpy().sum(axis=1)  # over the tokens
    >>> bool(np.allclose(shares, 1.0))
    True
    """

    dispatch_weight: Tensor
    combine_weight: Tensor
    probabilities: Tensor

    def dispatch_array(self) -> Tensor:
        """Returns `dispatch_weight`."""
        return self.dispatch_weight

    def combine_array(self) -> Tensor:
        """Returns `combine_weight`."""
        return self.combine_weight
