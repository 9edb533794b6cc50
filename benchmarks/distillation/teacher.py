"""Program: trains the sparse teacher of the distillation benchmark.

    python -m benchmarks.distillation.teacher

Trained once, in turns that are kept; an interrupted run goes on where it
stopped. An hour of one quiet core.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import pathlib
from typing import Any

from rich.console import Console

from benchmarks.shared.dictionary import load_splits
from benchmarks.shared.dictionary import make_pairs
from benchmarks.shared.variant import Variant
from pipelines.g2p.modules import training

STATE = pathlib.Path("build/distillation")
STEPS = 2000
BATCH_SIZE = 256
# Validation words scored after each turn, enough for an error rate; the test
# split is scored whole.
_VALIDATION_WORDS = 600
# The width is the preset's, which the student has, too: weights can be copied
# only between layers of one width.
TEACHER: dict[str, Any] = {
    "num_encoder_layers": 6,
    "num_decoder_layers": 8,
    "num_experts": 16,
    "position_encoding": "rotary",
}


def make_teacher(state: pathlib.Path = STATE) -> Variant:
    """Returns the teacher, in the state in which it was kept last."""
    state.mkdir(parents=True, exist_ok=True)
    config = training.TrainingConfig(
        steps=STEPS,
        batch_size=BATCH_SIZE,
        peak_learning_rate=1e-3,
        max_minutes=0.0,
        # Label smoothing would flatten what the teacher says about wrong
        # answers, from which the student learns.
        label_smoothing=0.0,
    )
    return Variant("teacher", TEACHER, config, dropout_rate=0.0, state=state)


def train_teacher(teacher: Variant, splits: dict, console: Console) -> None:
    """Trains until the teacher has had its updates."""
    pairs = None
    while teacher.step < teacher.config.steps:
        pairs = pairs or make_pairs(splits["train"])
        teacher.turn(*pairs, splits["validation"][:_VALIDATION_WORDS])
        point = teacher.curve[-1]
        console.print(
            f"teacher step {point['step']:,}: phoneme error "
            f"{point['phoneme_error_rate']:.2%}, word error "
            f"{point['word_error_rate']:.2%} (validation), "
            f"{point['seconds']:.0f} s"
        )


if __name__ == "__main__":
    train_teacher(make_teacher(), load_splits(), Console())
