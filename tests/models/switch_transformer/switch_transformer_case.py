"""Small models of every kind, and what to feed them."""

import numpy as np
import pytest

from keras_moe.models import SwitchTransformer

SIZES = {
    "vocabulary_size": 12,
    "model_dim": 8,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "num_experts": 3,
}
# For what does not depend on the depth: each block costs a second of tracing.
ONE_BLOCK = {"num_encoder_layers": 1, "num_decoder_layers": 1, "moe_every": 1}
KINDS = {
    "sparse": {},
    "dense, gated": {"num_experts": 0, "gated": True, "activation": "gelu"},
    "every block, gated": {"moe_every": 1, "gated": True},
    "untied": {"tie_embeddings": False},
    "two vocabularies": {"target_vocabulary_size": 9},
    "two vocabularies, untied": {
        "target_vocabulary_size": 9,
        "tie_embeddings": False,
        "key_dim": 5,
        "start_id": 2,
    },
}
# By default the last kind stands for these.
HALVES = ("untied", "two vocabularies")
# Of experts in every block, gated, and without any, as if by itself.
EACH_KIND = [
    pytest.param(kind, marks=pytest.mark.large)
    if kind in ("sparse", "dense, gated", *HALVES)
    else kind
    for kind in KINDS
]


def make(kind="sparse", **sizes):
    """A model with opinions: default routers see all experts as equal."""
    model = SwitchTransformer(**{**SIZES, **KINDS[kind], **sizes})
    for weight in model.weights:
        if "router" in weight.path and weight.path.endswith("kernel"):
            weight.assign(np.random.normal(size=weight.shape))
    return model


def data(batch=3, source=6, target=5, vocabulary=9):
    ids = np.random.randint(3, vocabulary, (batch, source))
    lengths = np.random.randint(1, source + 1, (batch, 1))
    lengths[0] = source
    ids = np.where(np.arange(source)[None] < lengths, ids, 0)
    targets = np.random.randint(3, vocabulary, (batch, target))
    return {
        "encoder_token_ids": ids.astype("int32"),
        "decoder_token_ids": targets.astype("int32"),
    }
