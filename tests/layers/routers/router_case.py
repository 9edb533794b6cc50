"""One router of every kind, without noise and with opinions."""

from keras_moe import layers

VOCABULARY = 40

TOKEN_CHOICE = {
    "switch": (layers.SwitchRouter, {}),
    "top_2": (layers.TopKRouter, {"num_selected_experts": 2}),
    "top_3": (
        layers.TopKRouter,
        {
            "num_selected_experts": 3,
            "normalization": "after_drop",
            "priority": "token_major",
            "second_expert_policy": "threshold",
        },
    ),
    "gshard": (
        layers.TopKRouter,
        {"second_expert_policy": "random", "second_expert_threshold": 0.6},
    ),
    "prioritized": (layers.TopKRouter, {"priority": "batch_prioritized"}),
    "bias_balanced": (layers.BiasBalancedRouter, {}),
    "hash": (layers.HashRouter, {"vocabulary_size": VOCABULARY}),
    "locality_hash": (layers.LocalityHashRouter, {}),
}
EXPERT_CHOICE = {
    "expert_choice": (layers.ExpertChoiceRouter, {}),
    "capped": (layers.ExpertChoiceRouter, {"max_experts_per_token": 1}),
}
SPARSE = TOKEN_CHOICE | EXPERT_CHOICE
ALL = SPARSE | {"soft": (layers.SoftRouter, {"slots_per_expert": 2})}
# They have no kernel to learn.
FIXED = ("hash", "locality_hash")


def router(name, **settings):
    """Makes the router; settings that it does not have are left out."""
    kind, arguments = ALL[name]
    arguments = {"name": "router", "seed": 5, **arguments}
    if name not in FIXED:
        # The default kernel is so small that gates are all alike.
        arguments |= {
            "jitter_noise": 0.0,
            "kernel_initializer": "glorot_normal",
        }
    if name not in ("soft", *EXPERT_CHOICE):
        arguments |= {"min_expert_capacity": 1}
    return kind(**{**arguments, **settings})
