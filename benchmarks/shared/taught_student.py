"""A dense student that learns from logits which its teacher left on disk."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import keras

from benchmarks.shared.kept_checkpoints import digest
from benchmarks.shared.kept_checkpoints import kept_checkpoints
from benchmarks.shared.learning_curve import LearningCurve
from benchmarks.shared.lessons import read_lessons
from keras_moe.atomic_file import atomic_file
from keras_moe.distillation import CachedTeacher
from keras_moe.distillation import EarlyExitDistiller
from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.distillation import initialize_dense_student
from keras_moe.models import SwitchTransformer
from keras_moe.training import BudgetedSchedule
from keras_moe.training import Trainer
from keras_moe.weights import fingerprint
from pipelines.g2p.modules import text
from pipelines.g2p.modules import training
from pipelines.g2p.modules.presets import from_preset


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


class TaughtStudent:
    """One student with one seed, and what is kept of it.

    Args:
        name: what its files are called.
        recipe: how it is made.
        overrides: in what its `SwitchTransformerConfig` differs from the
            demo's preset.
        config: how long and how to train.
        seed: of initial weights and of the order of examples.
        state: folder of what is kept, with the lessons of `write_lessons`.
        settings: what else its weights depend on: the teacher's settings, and
            what names the recipe.
        exits: arguments of `EarlyExitDistiller`, for recipes with `per_exit`.
    """

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        overrides: dict[str, Any],
        config: training.TrainingConfig,
        seed: int,
        state: pathlib.Path,
        settings: dict[str, Any],
        exits: dict[str, Any] | None = None,
    ):
        self.name = f"{name}-{seed}"
        self.seed = seed
        self._recipe = recipe
        self._overrides = overrides
        self._config = config
        self._exits = exits or {}
        self._state = state
        self._settings = {
            "recipe": dataclasses.asdict(recipe),
            "seed": seed,
            "student": overrides,
            "training": dataclasses.asdict(config),
            **({"exits": exits} if exits else {}),
            **settings,
        }
        kept = state / f"{self.name}-{digest(self._settings)}"
        self._weights = kept.with_suffix(".weights.h5")
        self._figures = kept.with_suffix(".json")

    @property
    def done(self) -> bool:
        """Whether it was trained and is kept."""
        return self._figures.exists()

    def figures(self) -> dict[str, float]:
        """Returns what was measured at the end of the training."""
        return json.loads(self._figures.read_text())

    def new_model(self) -> SwitchTransformer:
        """Returns the student as it is before it has learned anything."""
        return from_preset(
            "switch_g2p_demo",
            vocabulary_size=text.SOURCE_VOCABULARY_SIZE,
            target_vocabulary_size=text.target_vocabulary_size(),
            **self._overrides,
        )

    def model(self) -> SwitchTransformer:
        """Returns the trained student."""
        student = self.new_model()
        student.load_weights(self._weights)
        return student

    def train(
        self,
        teacher: SwitchTransformer,
        measure: Callable[[SwitchTransformer], dict[str, float]],
    ) -> None:
        """Trains and measures the student; keeps weights and figures.

        Args:
            teacher: whose logits are kept, and whose weights a recipe may
                start from.
            measure: gives the figures to keep of the trained student.
        """
        recipe = self._recipe
        keras.utils.set_random_seed(self.seed)
        student = self.new_model()
        if recipe.initialised:
            initialize_dense_student(teacher, student)
        kind: Any = SparseToDenseDistiller
        if recipe.per_exit:
            kind = EarlyExitDistiller
        distiller = kind(
            CachedTeacher(teacher.config.output_size),
            student,
            student_loss_weight=recipe.student_loss_weight,
            **self._exits,
        )
        training.compile_model(distiller, self._config)
        names = ("labels", "answers") if recipe.answers else ("labels",)
        curve = LearningCurve(dict)
        settings = {**self._settings, "teacher": fingerprint(teacher)}
        with kept_checkpoints(
            self._state,
            self.name,
            settings,
            training.UPDATES_BETWEEN_CHECKPOINTS,
        ) as checkpoints:
            Trainer(distiller, checkpoints).fit(
                read_lessons(
                    self._state, names, self._config.batch_size, self.seed
                ),
                steps_per_epoch=self._config.steps,
                callbacks=[BudgetedSchedule(self._config), curve],
                verbose=0,
            )
            figures = {
                **measure(student),
                "seconds": curve.points[-1]["seconds"],
            }
            student.save_weights(self._weights)
            with atomic_file(self._figures) as partial:
                partial.write_text(json.dumps(figures))
