"""The one description of a routing decision that every executor carries out.

Axis names, here and in all modules of routing:
    g  groups (routed independently of one another)
    s  tokens in a group
    e  experts
    c  slots of an expert in a group (its capacity)
    k  choices of a token
    d  model dimension

Groups that are spread over two axes of a mesh have two axes themselves:
wherever `g` stands, `[b, g, ...]` may.
"""

from typing import NamedTuple

from keras import ops

from keras_moe.types import Tensor


class RoutingPlan(NamedTuple):
    """Which token sits in which slot of which expert, and with what weight.

    Attributes:
        token_index: int32 `[g, e, c]`, the token in each slot; `s` (one past
            the last token) marks an empty slot.
        combine_weight: float32 `[g, e, c]`, the weight of the expert's output
            in the token's sum; 0 for an empty slot. Carries the gradient to
            the router.
        probabilities: float32 `[g, s, e]`, the router's softmax; NaN for a
            token that has none, which takes no slot and comes out as NaN.
        slot_index: int32 `[g, s, k]`, the inverse of `token_index`: where each
            choice of a token sits, as `expert * c + slot`; `e * c` marks a
            choice that was dropped or never made. With it no executor needs
            to scatter.
        expert_index: int32 `[g, s, k]`, the experts that each token asked for,
            before capacity dropped any; `e` marks padding and choices that
            were never made.
        choice_weight: float32 `[g, s, k]`, the weight of each choice, 0 for one
            that was never made; `()` where capacity may drop choices. With it
            an executor needs no slots, and a graph leaves them out.

    Example:

    >>> logits = np.array([[[2.0, 0.0], [1.0, 0.0]]])  # both want expert 0
    >>> plan = keras_moe.ops.top_k_routing(logits, 1, expert_capacity=1)
    >>> plan.expert_index.numpy()[0, :, 0]  # what tokens asked for
    array([0, 0], dtype=int32)
    >>> plan.slot_index.numpy()[0, :, 0]  # 2 experts of 1 slot: 2 is "dropped"
    array([0, 2], dtype=int32)
    """

    token_index: Tensor
    combine_weight: Tensor
    probabilities: Tensor
    slot_index: Tensor
    expert_index: Tensor
    choice_weight: Tensor | tuple[()] = ()

    def dispatch_mask(self) -> Tensor:
        """Returns bool `[g, s, e, c]`: token s sits in slot c of expert e."""
        tokens = ops.arange(ops.shape(self.probabilities)[-2], dtype="int32")
        # [s, 1, 1] == [g, 1, e, c]
        tokens = ops.reshape(tokens, (-1, 1, 1))
        return tokens == ops.expand_dims(self.token_index, -3)

    def dispatch_array(self) -> Tensor:
        """Returns the mask as float32: how much of a token a slot holds."""
        return ops.cast(self.dispatch_mask(), "float32")

    def combine_array(self) -> Tensor:
        """Returns float32 `[g, s, e, c]`: the weights, 0 outside the mask."""
        # A product with the mask would give the NaN of one slot to all tokens.
        weight = ops.expand_dims(self.combine_weight, -3)
        return ops.where(self.dispatch_mask(), weight, 0.0)
