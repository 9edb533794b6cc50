"""A dense model without dropout, and what to train it on."""

import numpy as np

from keras_moe.models import SwitchTransformer

STILL = {"dropout_rate": 0.0, "expert_dropout_rate": 0.0, "jitter_noise": 0.0}


def make(layers=3, **sizes):
    """A model whose answers in training are those outside it."""
    return SwitchTransformer.from_preset(
        "switch_tiny",
        **{
            "num_encoder_layers": 1,
            "num_decoder_layers": layers,
            "num_experts": 0,
            **STILL,
            **sizes,
        },
    )


def data(batch=3, source=5, target=4, vocabulary=32):
    """Inputs and targets; the targets end in padding."""
    ids = np.random.randint(2, vocabulary, (batch, source))
    inputs = np.random.randint(2, vocabulary, (batch, target))
    targets = np.random.randint(2, vocabulary, (batch, target))
    targets[::2, -2:] = 0
    return (
        {"encoder_token_ids": ids, "decoder_token_ids": inputs},
        targets,
    )
