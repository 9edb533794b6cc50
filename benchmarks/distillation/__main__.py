"""Distillation on the CMU dictionary: what a small student keeps.

    python -m benchmarks.distillation [--json FILE]

One sparse teacher (6 + 8 layers, 16 experts in every other one), and one dense
student (2 + 2 layers): of the same width, so that weights can be copied; on
the same words and letters; a twentieth of the parameters. The student is what
could be served in the teacher's place. It is trained for equal updates without
a teacher, and by recipes that each add one thing to the one before, three seeds
each; the teacher for twice as many. Then both are exported and timed.

What is missing is trained first: some three hours of one quiet core, of which
each finished part is kept. Then five minutes.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import pathlib
import sys

import tensorflow as tf
from rich.console import Console

from benchmarks.distillation.claims import report_recipes
from benchmarks.distillation.recipes import RECIPES
from benchmarks.distillation.recipes import SEEDS
from benchmarks.distillation.recipes import STEPS
from benchmarks.distillation.recipes import Run
from benchmarks.distillation.recipes import measure
from benchmarks.distillation.recipes import train_students
from benchmarks.distillation.served import report_served
from benchmarks.distillation.teacher import STATE
from benchmarks.distillation.teacher import make_teacher
from benchmarks.distillation.teacher import train_teacher
from benchmarks.shared.dictionary import load_splits
from benchmarks.shared.lessons import write_lessons
from benchmarks.shared.report import RESULTS
from benchmarks.shared.report import Report


def main() -> int:
    """Trains what is missing, measures, and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "distillation.json"
    )
    parser.add_argument("--state", type=pathlib.Path, default=STATE)
    options = parser.parse_args()
    # One thread, as in `benchmarks.early_exit`: the operations are too small to
    # share.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    console = Console()
    splits = load_splits()
    variant = make_teacher(options.state)
    train_teacher(variant, splits)
    teacher = variant.model
    write_lessons(teacher, splits["train"], options.state)
    train_students(teacher, splits, options.state)

    report = Report("Distillation on the CMU dictionary, test split")
    runs = {
        recipe: [Run(recipe, seed, options.state).figures() for seed in SEEDS]
        for recipe in RECIPES
    }
    best = report_recipes(
        report, measure(teacher, splits["test"]), runs, console
    )
    # Students of the last recipe were trained at every exit: serve one of them.
    final = Run(list(RECIPES)[-1], SEEDS[0], options.state).model()
    sizes = teacher.count_params(), final.count_params()
    report.add_figures(
        {
            "best_recipe": best,
            "seeds": len(SEEDS),
            "student_steps": STEPS,
            "teacher_steps": variant.step,
            "teacher_parameters": sizes[0],
            "student_parameters": sizes[1],
        }
    )
    report.add_claim("parameter_ratio", sizes[1] / sizes[0], 0.1, "<=")
    report_served(report, teacher, final, splits)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
