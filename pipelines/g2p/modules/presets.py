"""The sizes of teachers, by name."""

from keras_moe.models import SwitchTransformer
from keras_moe.types import Config

_DEMO = {
    "model_dim": 128,
    "num_encoder_layers": 3,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "hidden_dim": 512,
    "num_experts": 8,
    "moe_every": 2,
    # Minutes of training see each word a few times: there is nothing to
    # regularise.
    "dropout_rate": 0.0,
    "expert_dropout_rate": 0.0,
}

# The demo's preset trains in minutes on two cores; the others are the
# library's.
PRESETS: dict[str, Config] = {
    "switch_g2p_demo": _DEMO,
    **{
        name: preset["config"]
        for name, preset in SwitchTransformer.presets.items()
    },
}


def from_preset(preset: str, **overrides: object) -> SwitchTransformer:
    """Returns a new model of a named size.

    Args:
        preset: A name of `PRESETS`.
        **overrides: Fields of the configuration to set or change, the sizes of
            the vocabularies among them.
    """
    return SwitchTransformer(**{**PRESETS[preset], **overrides})
