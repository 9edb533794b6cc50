"""Program: trains the students of the distillation benchmark, by recipe.

    python -m benchmarks.distillation.recipes [--seeds 0 1 2]

`benchmarks.distillation` trains those that are missing; with this program two
processes can share the seeds.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import functools
import pathlib
from typing import Any

import tensorflow as tf
from rich.console import Console

from benchmarks.distillation.teacher import BATCH_SIZE
from benchmarks.distillation.teacher import STATE
from benchmarks.distillation.teacher import TEACHER
from benchmarks.distillation.teacher import make_teacher
from benchmarks.shared.dictionary import load_splits
from benchmarks.shared.dictionary import make_pairs
from benchmarks.shared.taught_student import Recipe
from benchmarks.shared.taught_student import TaughtStudent
from benchmarks.shared.variant import error_rates
from keras_moe.losses import token_crossentropy
from keras_moe.models import SwitchTransformer
from pipelines.g2p.modules import training
from pipelines.g2p.modules.batches import array_pairs
from pipelines.g2p.modules.batches import evaluation_batches

STEPS = 1000
SEEDS = (0, 1, 2)
CONFIG = training.TrainingConfig(
    steps=STEPS,
    batch_size=BATCH_SIZE,
    peak_learning_rate=1.5e-3,
    max_minutes=0.0,
    label_smoothing=0.0,
)
STUDENT: dict[str, Any] = {
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "num_experts": 0,
    "position_encoding": "rotary",
}


# Each recipe adds one thing to the recipe above it, as in table 6 of
# arXiv:2101.03961.
RECIPES = {
    "dense": Recipe(1.0),
    "plain": Recipe(0.0),
    "+ initialisation": Recipe(0.0, initialised=True),
    "+ mix": Recipe(0.75, initialised=True),
    "+ sequence-level": Recipe(0.75, initialised=True, answers=True),
    "+ per-exit": Recipe(0.75, initialised=True, answers=True, per_exit=True),
}


class Run(TaughtStudent):
    """One recipe with one seed, and what is kept of it.

    Args:
        recipe: a name of `RECIPES`.
        seed: of initial weights and of the order of examples.
        state: folder of all.
    """

    def __init__(self, recipe: str, seed: int, state: pathlib.Path = STATE):
        super().__init__(
            recipe.strip("+ "),
            RECIPES[recipe],
            STUDENT,
            CONFIG,
            seed,
            state,
            {"teacher": TEACHER},
        )


def measure(model: SwitchTransformer, entries: list) -> dict[str, float]:
    """Returns error rates, and the cost of the listed answers in nats."""
    pairs = evaluation_batches(
        functools.partial(array_pairs, *make_pairs(entries)), model.config, 1024
    )
    cost = tokens = 0.0
    run = tf.function(
        lambda inputs, labels: token_crossentropy(labels, model(inputs)),
        autograph=False,
        reduce_retracing=True,
    )
    for inputs, labels in pairs:
        number = float(tf.math.count_nonzero(labels))
        cost += number * float(run(inputs, labels))
        tokens += number
    return {"nats_per_token": cost / tokens, **error_rates(model, entries)}


def train_students(
    teacher: SwitchTransformer,
    splits: dict,
    state: pathlib.Path = STATE,
    seeds: tuple[int, ...] = SEEDS,
) -> None:
    """Trains what is not trained yet, one seed after another."""
    console = Console()
    for seed in seeds:
        for recipe in RECIPES:
            run = Run(recipe, seed, state)
            if run.done:
                continue
            run.train(teacher, lambda student: measure(student, splits["test"]))
            figures = run.figures()
            console.print(
                f"{recipe} (seed {seed}): "
                f"{figures['nats_per_token']:.4f} nats a token, phoneme error "
                f"{figures['phoneme_error_rate']:.2%} (test), "
                f"{figures['seconds']:.0f} s"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options = parser.parse_args()
    train_students(
        make_teacher().model, load_splits(), seeds=tuple(options.seeds)
    )
