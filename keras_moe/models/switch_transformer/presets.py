"""Sizes with a name."""

from keras_moe.types import Config

# "switch_base_8" has the size of T5-Base (arXiv:1910.10683, section 2.1) with
# experts in every other block, as Switch-Base (arXiv:2101.03961, table 9).
PRESETS: dict[str, Config] = {
    "switch_g2p_demo": {
        "description": (
            "Grapheme-to-phoneme model of `make demo`: trains in minutes on "
            "two cores."
        ),
        "config": {
            "vocabulary_size": 64,
            "model_dim": 128,
            "num_encoder_layers": 3,
            "num_decoder_layers": 3,
            "num_heads": 4,
            "hidden_dim": 512,
            "num_experts": 8,
            "moe_every": 2,
            # Minutes of training see each word a few times: nothing to
            # regularise.
            "dropout_rate": 0.0,
            "expert_dropout_rate": 0.0,
        },
    },
    "switch_tiny": {
        "description": "For tests: a few thousand parameters.",
        "config": {
            "vocabulary_size": 32,
            "model_dim": 16,
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 2,
            "hidden_dim": 32,
            "num_experts": 4,
            "moe_every": 2,
        },
    },
    "switch_base_8": {
        "description": "Switch-Base: 8 experts in every other block.",
        "config": {
            "vocabulary_size": 32128,
            "model_dim": 768,
            "num_encoder_layers": 12,
            "num_decoder_layers": 12,
            "num_heads": 12,
            "hidden_dim": 3072,
            "num_experts": 8,
            "moe_every": 2,
        },
    },
}
