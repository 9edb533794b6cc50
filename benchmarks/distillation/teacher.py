"""Program: trains the sparse teacher of the distillation benchmark.

    python -m benchmarks.distillation.teacher

Trained once, then kept; a run that was killed goes on where it was. An hour of
one quiet core.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import pathlib
from typing import Any

from benchmarks.shared.dictionary import load_splits
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
    """Returns the teacher, trained if it is kept."""
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


def train_teacher(teacher: Variant, splits: dict) -> None:
    """Trains the teacher, unless it is trained."""
    teacher.train(splits, _VALIDATION_WORDS)


if __name__ == "__main__":
    train_teacher(make_teacher(), load_splits())
