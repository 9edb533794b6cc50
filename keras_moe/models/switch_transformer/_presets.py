"""Models by name or from a directory."""

import contextlib
import json
import os
from typing import Any

import keras
from keras import ops

from keras_moe.atomic_file import atomic_file
from keras_moe.atomic_file import check_room
from keras_moe.types import Config

# "switch_base_8" has the size of T5-Base (arXiv:1910.10683, section 2.1) with
# experts in every other block, as Switch-Base (arXiv:2101.03961, table 9).
PRESETS: dict[str, Config] = {
    "switch_tiny": {
        "description": "For tests: a few thousand parameters, random.",
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
        "description": "Switch-Base: 8 experts in every other block; the size "
        "alone, with random weights.",
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

# What HDF5 writes besides the values of a weight, at most.
_EACH = 2**14


def load_preset(cls: Any, preset: str, overrides: Config) -> Any:
    """Makes a model of a named size, or loads one from a directory.

    Args:
        cls: the model's class.
        preset: a name, or a directory that `save_preset` wrote.
        overrides: fields of the config to change.
    """
    if preset in PRESETS:
        return cls(**{**PRESETS[preset]["config"], **overrides})
    path = os.path.join(preset, "config.json")
    if not os.path.exists(path):
        raise ValueError(
            f"`preset` must be one of {tuple(PRESETS)} or a directory "
            f"with a config.json. Received: preset={preset!r}."
        )
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    if "model_type" in config:
        raise ValueError(
            "`preset` must be a directory that `save_to_preset` wrote; "
            "`keras_moe.conversion.load_hugging_face` reads those of Hugging "
            f"Face. Received: preset={preset!r}, model_type="
            f"{config['model_type']!r}."
        )
    model = cls(**{**config, **overrides})
    model.load_weights(os.path.join(preset, "model.weights.h5"))
    return model


def save_preset(model: keras.Model, directory: str) -> None:
    """Writes the config and the weights, each completely or not at all."""
    os.makedirs(directory, exist_ok=True)
    weights = os.path.join(directory, "model.weights.h5")
    config = os.path.join(directory, "config.json")
    partial = os.path.join(directory, "partial.weights.h5")
    values = sum(
        ops.convert_to_numpy(weight).nbytes + _EACH for weight in model.weights
    )
    # HDF5 takes the process down where it meets a full disk.
    check_room(directory, values + _EACH)
    try:
        model.save_weights(partial)
        os.replace(partial, weights)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(partial)
        raise
    with atomic_file(config) as written:
        text = json.dumps(model.config.to_dict(), indent=2)
        written.write_text(text, encoding="utf-8")
