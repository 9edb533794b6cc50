"""One plan of every kind."""

import numpy as np
import tensorflow as tf

from keras_moe.ops import expert_choice_routing
from keras_moe.ops import fixed_routing
from keras_moe.ops import soft_routing
from keras_moe.ops import top_k_routing


def fixed(logits, capacity, mask):
    # Two different experts for each token, by its position.
    _, tokens, experts = logits.shape
    first = np.arange(tokens) * 7 % experts
    index = np.stack([first, (first + 1) % experts], axis=-1)[None]
    index = np.repeat(index[..., : min(2, experts)], len(logits), axis=0)
    return fixed_routing(index, experts, capacity, mask)


def soft(logits, capacity, mask):
    # [g, s, e, c]
    phase = tf.range(float(capacity or 2))
    return soft_routing(tf.sin(logits[..., None] * 3 + phase), mask)


# Each takes the logits, a capacity or None, and a mask or None.
SPARSE = {
    "top_1": lambda logits, capacity, mask: top_k_routing(
        logits, 1, capacity, mask
    ),
    "top_2": lambda logits, capacity, mask: top_k_routing(
        logits,
        min(2, logits.shape[2]),
        capacity,
        mask,
        normalization="before_drop",
        second_expert_policy="threshold",
    ),
    "top_3": lambda logits, capacity, mask: top_k_routing(
        logits,
        min(3, logits.shape[2]),
        capacity,
        mask,
        normalization="after_drop",
        priority="gate_prioritized",
    ),
    "expert_choice": lambda logits, capacity, mask: expert_choice_routing(
        logits, capacity or 3, mask
    ),
    "capped": lambda logits, capacity, mask: expert_choice_routing(
        logits,
        capacity or 3,
        mask,
        max_experts_per_token=1,
        num_iterations=10,
        normalization="mean",
    ),
    "fixed": fixed,
}
DENSE = {"soft": soft}
