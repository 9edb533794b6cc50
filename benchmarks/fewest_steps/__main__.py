"""The fewest updates with which the demo's models pass its gate, three seeds.

    python -m benchmarks.fewest_steps [--steps 800 1000 1200] [--json FILE]

Trains a teacher with each number of updates, a student with half as many,
certifies its exits and asks it for words of the validation split: what the
pipeline does where its budget of minutes is too short. A number passes if, for
each seed, the certified student's phoneme error rate is below the gate's bound
by a tenth of it. The claim is about `min_steps` of the demo's configuration.
Each model takes four minutes on two quiet cores; a run that is killed goes on
with the next one when it is started again.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import dataclasses
import functools
import json
import pathlib
import sys

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.shared.dictionary import Entries
from benchmarks.shared.dictionary import answered_phonemes
from benchmarks.shared.dictionary import listed_phonemes
from benchmarks.shared.dictionary import load_splits
from benchmarks.shared.dictionary import make_pairs
from benchmarks.shared.dictionary import word_ids
from benchmarks.shared.kept_checkpoints import code
from benchmarks.shared.kept_checkpoints import digest
from benchmarks.shared.report import RESULTS
from benchmarks.shared.report import Report
from keras_moe.atomic_file import atomic_file
from keras_moe.calibration import calibrate
from keras_moe.calibration import edit_distance_error
from keras_moe.calibration import exit_answers
from keras_moe.calibration import exit_policy
from keras_moe.calibration import risk_consistency
from keras_moe.distillation import EarlyExitDistiller
from keras_moe.distillation import initialize_dense_student
from keras_moe.generation import EarlyExitPolicy
from keras_moe.metrics import symbol_error_rate
from keras_moe.models import SwitchTransformer
from keras_moe.weights import fingerprint
from pipelines.g2p.configs import PipelineConfig
from pipelines.g2p.modules import text
from pipelines.g2p.modules import training
from pipelines.g2p.modules.batches import array_pairs
from pipelines.g2p.modules.batches import training_batches
from pipelines.g2p.modules.trainer import new_teacher

_SEEDS = (0, 1, 2)
_MARGIN = 0.1
_STATE = pathlib.Path("build/fewest_steps")


def main() -> int:
    """Measures each number of updates, the smallest first."""
    config = PipelineConfig()
    floor = config.teacher.training.min_steps
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[floor - 200, floor]
    )
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "fewest_steps.json"
    )
    options = parser.parse_args()
    bound = (1 - _MARGIN) * config.evaluation.max_phoneme_error_rate
    splits = load_splits()
    table = Table("teacher", "student", "phoneme error, by seed", "passes")
    worst = {}
    for steps in sorted({*options.steps, floor}):
        rates = [_rate(config, splits, steps, seed) for seed in _SEEDS]
        worst[steps] = max(rates)
        table.add_row(
            f"{steps:,}",
            f"{steps // 2:,}",
            ", ".join(f"{rate:.2%}" for rate in rates),
            "yes" if worst[steps] <= bound else "no",
        )
    Console().print(table)
    report = Report("Fewest updates that pass the demo's gate")
    report.add_figures(
        {
            f"worst_phoneme_error_rate_{steps}": rate
            for steps, rate in worst.items()
        }
    )
    passing = [steps for steps, rate in worst.items() if rate <= bound]
    report.add_figures({"fewest_passing_steps": min(passing, default=None)})
    report.add_claim(
        "phoneme_error_rate_at_min_steps", worst[floor], bound, "<="
    )
    return report.finish(options.json)


def _rate(
    config: PipelineConfig, splits: dict[str, Entries], steps: int, seed: int
) -> float:
    """Returns the phoneme error rate of a model, measured now or before."""
    settings = {"config": config.model_dump(mode="json"), "code": code()}
    kept = _STATE / digest({**settings, "steps": steps, "seed": seed})
    if kept.exists():
        return json.loads(kept.read_text())
    student = _train(config, splits["train"], steps, seed)
    # Each split is read in the order of the dictionary, which is no sample.
    drawn = np.random.default_rng(0)
    calibration, validation = (
        [splits[name][i] for i in drawn.permutation(len(splits[name]))[:most]]
        for name, most in (
            ("calibration", config.exits.max_words),
            ("validation", None),
        )
    )
    rate = _certified_rate(config, student, calibration, validation)
    Console().print(f"{steps:,} updates, seed {seed}: {rate:.2%}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(kept) as partial:
        partial.write_text(json.dumps(rate))
    return rate


def _train(
    config: PipelineConfig, entries: Entries, steps: int, seed: int
) -> SwitchTransformer:
    """Trains teacher and student as the pipeline does without a budget."""
    pairs = functools.partial(array_pairs, *make_pairs(entries))
    keras.utils.set_random_seed(seed)

    def train(model: keras.Model, config: training.TrainingConfig) -> None:
        training.train(
            model,
            training_batches(pairs, teacher.config, config.batch_size, seed),
            None,
            config,
        )

    def shortened(
        config: training.TrainingConfig, steps: int
    ) -> training.TrainingConfig:
        return dataclasses.replace(
            config, steps=steps, min_steps=1, max_minutes=0.0, seed=seed
        )

    teacher = new_teacher(config.teacher.preset, config.data.keep_stress)
    train(teacher, shortened(config.teacher.training, steps))
    student = SwitchTransformer(
        **{
            **teacher.config.to_dict(),
            "num_experts": 0,
            "num_encoder_layers": config.student.num_encoder_layers,
            "num_decoder_layers": config.student.num_decoder_layers,
        }
    )
    initialize_dense_student(teacher, student)
    distiller = EarlyExitDistiller(
        teacher, student, student_loss_weight=config.student.student_loss_weight
    )
    train(distiller, shortened(config.student.training, steps // 2))
    return student


def _certified_rate(
    config: PipelineConfig,
    student: SwitchTransformer,
    calibration: Entries,
    validation: Entries,
) -> float:
    """Certifies the exits, and returns the error rate at that threshold."""
    exits = config.exits
    policy = EarlyExitPolicy(exits.confidence)
    listed = listed_phonemes(calibration)
    answers = exit_answers(
        student,
        word_ids(calibration),
        policy,
        exits.thresholds,
        text.MAX_PHONEMES,
        verbose=0,
    )
    full = answered_phonemes(next(answers).token_ids)
    losses = [
        risk_consistency(
            answered_phonemes(early.token_ids),
            full,
            listed,
            edit_distance_error,
        )
        for early in answers
    ]
    certificate = calibrate(
        np.stack(losses, axis=1),
        exits.thresholds,
        exits.tolerance,
        confidence_level=exits.confidence_level,
        policy=exit_policy(policy, text.MAX_PHONEMES),
        fingerprint=fingerprint(student),
    )
    threshold = certificate.threshold
    full_and_early = exit_answers(
        student,
        word_ids(validation),
        policy,
        [] if threshold is None else [threshold],
        text.MAX_PHONEMES,
        verbose=0,
    )
    *_, last = full_and_early
    return symbol_error_rate(
        answered_phonemes(last.token_ids), listed_phonemes(validation)
    )


if __name__ == "__main__":
    sys.exit(main())
