"""Program: trains the models of the frontier benchmark.

    python -m benchmarks.frontier.train [--seeds 0 1] [--student_updates N]

One teacher, and for each seed: static students of one to three decoder layers,
taught alike by what `benchmarks.distillation` found to be the best recipe; a
student with an exit, each of its exits taught by the same; and a sprinter, the
smallest of all, which no width of the teacher's fits and which therefore starts
afresh. What was trained is kept; a run that was killed goes on where it was.
Once the teacher is there, each seed has a process of its own: two quiet cores
train two of them at once.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import dataclasses
import functools
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from rich.console import Console

from benchmarks.shared.dictionary import Entries
from benchmarks.shared.dictionary import load_splits
from benchmarks.shared.kept_checkpoints import digest
from benchmarks.shared.lessons import write_lessons
from benchmarks.shared.taught_student import Recipe
from benchmarks.shared.taught_student import TaughtStudent
from benchmarks.shared.variant import Variant
from benchmarks.shared.variant import error_rates
from keras_moe.models import SwitchTransformer
from pipelines.g2p.modules import training

STATE = pathlib.Path("build/frontier")
SEEDS = (0, 1)
TEACHER_UPDATES, STUDENT_UPDATES = 5000, 1500
# Validation words scored while training, enough to see it go well.
_VALIDATION_WORDS = 600


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that is trained, and how long.

    Attributes:
        teacher: in what its config differs from the demo's preset.
        students: name to the same of each student.
        exits: of those students that have some, arguments of
            `EarlyExitDistiller`.
        teacher_training: how long and how to train the teacher.
        student_training: the same of the students.
        fresh: how to train those that do not start from the teacher, by name.
    """

    teacher: dict[str, Any]
    students: dict[str, dict[str, Any]]
    exits: dict[str, dict[str, Any]]
    teacher_training: training.TrainingConfig
    student_training: training.TrainingConfig
    fresh: dict[str, training.TrainingConfig]

    def with_updates(self, teacher: int, student: int) -> "Plan":
        """Returns the plan with other numbers of updates.

        Args:
            teacher: of the teacher.
            student: of each student; three times as many of those that start
                afresh.
        """
        fresh = {
            name: dataclasses.replace(each, steps=3 * student)
            for name, each in self.fresh.items()
        }
        return dataclasses.replace(
            self,
            teacher_training=dataclasses.replace(
                self.teacher_training, steps=teacher
            ),
            student_training=dataclasses.replace(
                self.student_training, steps=student
            ),
            fresh=fresh,
        )

    @property
    def static(self) -> tuple[str, ...]:
        """Names of the students that are the baselines."""
        return tuple(name for name in self.students if "static" in name)


_DENSE: dict[str, Any] = {"num_experts": 0, "position_encoding": "rotary"}
_TAUGHT = training.TrainingConfig(
    # Validation errors after 1,500 updates of 256 words, and after 2,400 of
    # 128: one layer 16.7 and 21.1 %, two layers 13.1 and 13.2 %.
    batch_size=256,
    peak_learning_rate=1.5e-3,
    max_minutes=0.0,
    # The teacher's probabilities are the targets: they are smooth enough.
    label_smoothing=0.0,
)
PLAN = Plan(
    teacher={**_DENSE, "num_encoder_layers": 4, "num_decoder_layers": 8},
    students={
        **{
            f"static {layers}": {
                **_DENSE,
                "num_encoder_layers": 2,
                "num_decoder_layers": layers,
            }
            for layers in (1, 2, 3)
        },
        "sprinter": {
            **_DENSE,
            "num_encoder_layers": 1,
            "num_decoder_layers": 1,
            "model_dim": 64,
            "hidden_dim": 256,
        },
        "exits": {
            **_DENSE,
            "num_encoder_layers": 2,
            "num_decoder_layers": 4,
        },
    },
    # One exit: each costs a norm, a head and a branch for every token.
    exits={"exits": {"min_exit_layer": 1, "exit_interval": 3}},
    teacher_training=dataclasses.replace(_TAUGHT, peak_learning_rate=1.2e-3),
    student_training=_TAUGHT,
    # An update of the sprinter costs a third of another student's.
    fresh={"sprinter": dataclasses.replace(_TAUGHT, peak_learning_rate=3e-3)},
).with_updates(TEACHER_UPDATES, STUDENT_UPDATES)


def make_teacher(state: pathlib.Path, plan: Plan = PLAN) -> Variant:
    """Returns the teacher, trained if it is kept."""
    return Variant(
        "teacher", plan.teacher, plan.teacher_training, 0.0, state=state
    )


def make_students(
    seed: int, state: pathlib.Path, plan: Plan = PLAN
) -> dict[str, TaughtStudent]:
    """Returns the students of a seed by name, trained or not."""
    teacher = {
        "model": plan.teacher,
        "training": dataclasses.asdict(plan.teacher_training),
    }
    students = {}
    for name, overrides in plan.students.items():
        exits = plan.exits.get(name)
        fresh = plan.fresh.get(name)
        students[name] = TaughtStudent(
            name.replace(" ", "-"),
            # The best of `benchmarks.distillation`, as far as widths allow.
            Recipe(0.0, initialised=fresh is None, per_exit=exits is not None),
            overrides,
            fresh or plan.student_training,
            seed,
            lessons_of(state, plan),
            {"teacher": teacher},
            exits,
        )
    return students


def lessons_of(state: pathlib.Path, plan: Plan) -> pathlib.Path:
    """Returns the folder of one teacher's lessons, and of its students."""
    teacher = [plan.teacher, dataclasses.asdict(plan.teacher_training)]
    return state / f"taught-{digest({'teacher': teacher})}"


def train(
    splits: dict[str, Entries],
    state: pathlib.Path,
    seeds: Sequence[int] = SEEDS,
    plan: Plan = PLAN,
) -> None:
    """Trains what is not trained yet, the teacher first.

    Args:
        splits: of the dictionary.
        state: folder of what is kept.
        seeds: of the students.
        plan: what is trained.

    Raises:
        CalledProcessError: the process of a seed failed.
    """
    variant = make_teacher(state, plan)
    variant.train(splits, _VALIDATION_WORDS)
    waiting = [
        seed
        for seed in seeds
        if not all(
            student.done
            for student in make_students(seed, state, plan).values()
        )
    ]
    if not waiting:
        return
    write_lessons(
        variant.model, splits["train"], lessons_of(state, plan), ("labels",)
    )
    here, *elsewhere = waiting
    started = [_start(seed, state, plan) for seed in elsewhere]
    _train_students(here, variant.model, splits["validation"], state, plan)
    for process in started:
        if process.wait():
            raise subprocess.CalledProcessError(
                process.returncode, process.args
            )


def _start(
    seed: int, state: pathlib.Path, plan: Plan
) -> subprocess.Popen[bytes]:
    """Starts this program for one seed."""
    options = {
        "state": state,
        "seeds": seed,
        "teacher_updates": plan.teacher_training.steps,
        "student_updates": plan.student_training.steps,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.frontier.train", *words]
    )


def _train_students(
    seed: int,
    teacher: SwitchTransformer,
    validation: Entries,
    state: pathlib.Path,
    plan: Plan,
) -> None:
    console = Console()
    measure = functools.partial(
        error_rates, entries=validation[:_VALIDATION_WORDS]
    )
    for student in make_students(seed, state, plan).values():
        if student.done:
            continue
        student.train(teacher, measure)
        figures = student.figures()
        console.print(
            f"{student.name}: phoneme error "
            f"{figures['phoneme_error_rate']:.2%} (validation), "
            f"{figures['seconds']:.0f} s"
        )


def use_one_thread() -> None:
    """Leaves TensorFlow one thread.

    The operations are too small for two, which would hand them to and fro.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds what says which models are trained, and where they are kept."""
    parser.add_argument("--state", type=pathlib.Path, default=STATE)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--teacher_updates", type=int, default=TEACHER_UPDATES)
    parser.add_argument("--student_updates", type=int, default=STUDENT_UPDATES)


def plan_of(options: argparse.Namespace) -> Plan:
    """Returns the plan with the updates that were asked for."""
    return PLAN.with_updates(options.teacher_updates, options.student_updates)


def main() -> None:
    """Trains what is not trained yet."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier.train")
    add_options(parser)
    options = parser.parse_args()
    use_one_thread()
    train(load_splits(), options.state, options.seeds, plan_of(options))


if __name__ == "__main__":
    main()
