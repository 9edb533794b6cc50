"""Carrying out a plan that drops nothing, for the few tokens of a step.

No slot, queue or sort: tokens are parted by expert and put together again. The
two hundred small operations around slots took longer, for one token, than half
of the products of its expert.
"""

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_moe.ops.routing._broken_rows import broken_rows
from keras_moe.ops.routing._routing_plan import RoutingPlan
from keras_moe.types import Tensor


def apply_by_choice(
    tokens: Tensor, plan: RoutingPlan, experts: Sequence[Callable]
) -> Tensor:
    """Applies to each token the experts that it chose, and sums them up.

    Args:
        tokens: `[g, s, d]`.
        plan: a plan with `choice_weight`.
        experts: functions of `[m, d]`, one an expert.

    Returns:
        `[g, s, d]`; zeros for tokens without a choice, NaN for broken ones.
    """
    choices = plan.expert_index.shape[-1]
    asks = tf.reshape(tokens, (-1, tokens.shape[-1]))
    if choices > 1:
        asks = tf.repeat(asks, choices, axis=0)
    # One part more: of choices that were never made.
    expert, parts = tf.reshape(plan.expert_index, (-1,)), len(experts) + 1
    places = tf.dynamic_partition(tf.range(tf.size(expert)), expert, parts)
    *rows, unmade = tf.dynamic_partition(asks, expert, parts)
    outputs = [f(each) for f, each in zip(experts, rows, strict=True)]
    outputs = tf.dynamic_stitch(places, [*outputs, tf.zeros_like(unmade)])
    weight = tf.reshape(plan.choice_weight, (-1, 1))
    outputs = outputs * tf.cast(weight, outputs.dtype)
    if choices > 1:
        shape = (-1, choices, outputs.shape[-1])
        outputs = tf.reduce_sum(tf.reshape(outputs, shape), axis=1)
    outputs = tf.reshape(outputs, tf.shape(tokens))
    return tf.where(broken_rows(plan.probabilities), np.nan, outputs)
