"""Program: trains the models of the early-exit benchmark, alike.

    python -m benchmarks.early_exit.train [--steps N]

A dense grapheme-to-phoneme model with eight decoder layers, every second of
them an exit, and one with three layers, trained with the loss of its last layer
alone. Equal data, order, updates and schedule. Seventy minutes of one quiet
core for 2,500 updates of 256 words. A trained model is kept; a run that was
killed goes on where it was.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import pathlib
from typing import Any

from benchmarks.shared.dictionary import load_splits
from benchmarks.shared.variant import Variant
from pipelines.g2p.modules import training

STATE = pathlib.Path("build/early_exit")
STEPS = 2500
# Validation words scored after each turn, enough for an error rate; the test
# split is scored whole.
_VALIDATION_WORDS = 600
# The model is wide enough for a layer to cost more than TensorFlow's own work
# between operations, which no exit can save.
_COMMON: dict[str, Any] = {
    "num_experts": 0,
    "position_encoding": "rotary",
    "model_dim": 192,
    "hidden_dim": 768,
}
# Every second layer is an exit: with an exit at every layer, confidences would
# be computed twice as often.
EXITS = {"min_exit_layer": 2, "exit_interval": 2}
_LAYERS = {"exits": 8, "shallow": 3}


def make_variants(
    steps: int = STEPS, state: pathlib.Path = STATE
) -> dict[str, Variant]:
    """Returns the models, trained if they are kept.

    Args:
        steps: updates of the whole training.
        state: folder of what is kept.
    """
    config = training.TrainingConfig(
        steps=steps,
        batch_size=256,
        peak_learning_rate=1.0e-3,
        max_minutes=0.0,
        label_smoothing=0.05,
    )
    return {
        name: Variant(
            name,
            {**_COMMON, "num_decoder_layers": layers},
            config,
            dropout_rate=0.0,
            state=state,
            exits=EXITS if name == "exits" else None,
        )
        for name, layers in _LAYERS.items()
    }


def train(variants: dict[str, Variant], splits: dict) -> None:
    """Trains what is not trained yet."""
    for variant in variants.values():
        variant.train(splits, _VALIDATION_WORDS)


def main() -> None:
    """Trains what is not trained yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--state", type=pathlib.Path, default=STATE)
    parser.add_argument("--only", choices=_LAYERS)
    options = parser.parse_args()
    variants = make_variants(options.steps, options.state)
    if options.only:
        variants = {options.only: variants[options.only]}
    train(variants, load_splits())


if __name__ == "__main__":
    main()
