"""Program: trains the students of the distillation benchmark, by recipe.

    python -m benchmarks.distillation.recipes [--seeds 0 1 2]

`benchmarks.distillation` trains those that are missing; with this program two
processes can share the seeds.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import dataclasses
import functools
import json
import pathlib
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from benchmarks.distillation.lessons import read_lessons
from benchmarks.distillation.teacher import BATCH_SIZE
from benchmarks.distillation.teacher import STATE
from benchmarks.distillation.teacher import TEACHER
from benchmarks.distillation.teacher import make_teacher
from benchmarks.shared.dictionary import load_splits
from benchmarks.shared.dictionary import make_pairs
from benchmarks.shared.kept_checkpoints import digest
from benchmarks.shared.kept_checkpoints import kept_checkpoints
from benchmarks.shared.learning_curve import LearningCurve
from benchmarks.shared.variant import error_rates
from keras_moe.atomic_file import atomic_file
from keras_moe.distillation import CachedTeacher
from keras_moe.distillation import EarlyExitDistiller
from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.distillation import initialize_dense_student
from keras_moe.losses import token_crossentropy
from keras_moe.models import SwitchTransformer
from keras_moe.training import BudgetedSchedule
from keras_moe.training import Trainer
from keras_moe.weights import fingerprint
from pipelines.g2p.modules import text
from pipelines.g2p.modules import training
from pipelines.g2p.modules.batches import array_pairs
from pipelines.g2p.modules.batches import evaluation_batches
from pipelines.g2p.modules.presets import from_preset

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


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a student is made.

    Attributes:
        student_loss_weight: what labels count; the teacher has the rest.
        initialised: whether it starts from the teacher's weights.
        answers: whether half of its examples are the teacher's own answers.
        per_exit: whether each of its exits is taught.
    """

    student_loss_weight: float
    initialised: bool = False
    answers: bool = False
    per_exit: bool = False


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


def make_student() -> SwitchTransformer:
    """Returns a student that has learned nothing."""
    return from_preset(
        "switch_g2p_demo",
        vocabulary_size=text.SOURCE_VOCABULARY_SIZE,
        target_vocabulary_size=text.target_vocabulary_size(),
        **STUDENT,
    )


class Run:
    """One recipe with one seed, and what is kept of it.

    Args:
        recipe: a name of `RECIPES`.
        seed: of initial weights and of the order of examples.
        state: folder of all.
    """

    def __init__(self, recipe: str, seed: int, state: pathlib.Path = STATE):
        self.recipe = recipe
        self.seed = seed
        self._state = state
        self._name = f"{recipe.strip('+ ')}-{seed}"
        self._settings = {
            "recipe": dataclasses.asdict(RECIPES[recipe]),
            "seed": seed,
            "student": STUDENT,
            "training": dataclasses.asdict(CONFIG),
            "teacher": TEACHER,
        }
        kept = state / f"{self._name}-{digest(self._settings)}"
        self._weights = kept.with_suffix(".weights.h5")
        self._figures = kept.with_suffix(".json")

    @property
    def done(self) -> bool:
        """Whether this run's student was trained and is kept."""
        return self._figures.exists()

    def figures(self) -> dict[str, float]:
        """Returns the figures measured on the test split."""
        return json.loads(self._figures.read_text())

    def student(self) -> SwitchTransformer:
        """Returns the trained student."""
        student = make_student()
        student.load_weights(self._weights)
        return student

    def train(self, teacher: SwitchTransformer, splits: dict) -> None:
        """Trains and measures the student; keeps weights and figures."""
        recipe = RECIPES[self.recipe]
        keras.utils.set_random_seed(self.seed)
        student = make_student()
        if recipe.initialised:
            initialize_dense_student(teacher, student)
        distiller = (
            EarlyExitDistiller if recipe.per_exit else SparseToDenseDistiller
        )(
            CachedTeacher(teacher.config.output_size),
            student,
            student_loss_weight=recipe.student_loss_weight,
        )
        training.compile_model(distiller, CONFIG)
        names = ("labels", "answers") if recipe.answers else ("labels",)
        curve = LearningCurve(dict)
        settings = {**self._settings, "teacher": fingerprint(teacher)}
        with kept_checkpoints(
            self._state,
            self._name,
            settings,
            training.UPDATES_BETWEEN_CHECKPOINTS,
        ) as checkpoints:
            Trainer(distiller, checkpoints).fit(
                read_lessons(self._state, names, BATCH_SIZE, self.seed),
                steps_per_epoch=CONFIG.steps,
                callbacks=[BudgetedSchedule(CONFIG), curve],
                verbose=0,
            )
            measured = measure(student, splits["test"])
            distiller.student.save_weights(self._weights)
            figures = {**measured, "seconds": curve.points[-1]["seconds"]}
            with atomic_file(self._figures) as partial:
                partial.write_text(json.dumps(figures))


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
            run.train(teacher, splits)
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
