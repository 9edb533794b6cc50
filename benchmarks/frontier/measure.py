"""Answers and times of all stages, and the systems that are chosen of them."""

import pathlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks.frontier import latency
from benchmarks.frontier.answers import Answers
from benchmarks.frontier.answers import kept_answers
from benchmarks.frontier.systems import Deferral
from benchmarks.frontier.systems import Outcome
from benchmarks.frontier.systems import Split
from benchmarks.frontier.systems import System
from benchmarks.frontier.systems import outcome
from benchmarks.frontier.train import PLAN
from benchmarks.frontier.train import Plan
from benchmarks.frontier.train import make_students
from benchmarks.frontier.train import make_teacher
from benchmarks.shared.dictionary import Entries
from benchmarks.shared.dictionary import answered_phonemes
from benchmarks.shared.dictionary import listed_phonemes
from keras_moe.calibration import DeferralRule
from keras_moe.generation import EarlyExitPolicy
from keras_moe.metrics import nearest_reference
from keras_moe.models import SwitchTransformer

TEACHER, SPRINTER = "teacher", "sprinter"
# What deferred words may come to.
LARGE = (TEACHER, "static 3")
_EXIT_THRESHOLDS = (0.9, 0.7, 0.4)


class Stage(NamedTuple):
    """A model, and when its tokens leave early.

    Attributes:
        model: trained.
        policy: `None` for never.
    """

    model: SwitchTransformer
    policy: EarlyExitPolicy | None = None


def load_stages(
    state: pathlib.Path, seeds: Sequence[int], plan: Plan = PLAN
) -> list[dict[str, Stage]]:
    """Returns the trained stages by name, for each seed.

    Students with exits are a stage at each threshold.
    """
    teacher = Stage(make_teacher(state, plan).model)
    loaded = []
    for seed in seeds:
        stages = {}
        for name, student in make_students(seed, state, plan).items():
            model = student.model()
            if name not in plan.exits:
                stages[name] = Stage(model)
                continue
            for threshold in _EXIT_THRESHOLDS:
                policy = EarlyExitPolicy(
                    "softmax", threshold=threshold, **plan.exits[name]
                )
                stages[f"{name} at {threshold}"] = Stage(model, policy)
        loaded.append({**stages, TEACHER: teacher})
    return loaded


def answer(
    stages: Sequence[Mapping[str, Stage]],
    folder: pathlib.Path,
    split: str,
    entries: Entries,
) -> list[dict[str, Answers]]:
    """Returns what all stages answer to a split, for each seed."""
    return [
        {
            name: kept_answers(
                folder, stage.model, split, entries, stage.policy
            )
            for name, stage in of_seed.items()
        }
        for of_seed in stages
    ]


def fit_rules(
    answers: Sequence[Mapping[str, Answers]], entries: Entries
) -> list[dict[tuple[str, str], DeferralRule]]:
    """Fits a rule to each pair of stages, on words of no other use.

    Args:
        answers: of the words, by seed, then by stage.
        entries: the words.
    """
    listed = listed_phonemes(entries)
    rules = []
    for of_seed in answers:

        def loss(outputs, listed):
            edits, lengths = nearest_reference(
                answered_phonemes(outputs["token_ids"]), listed
            )
            return np.clip(edits / lengths, 0.0, 1.0)

        rules.append(
            {
                (first, large): DeferralRule.fit(
                    of_seed[first].outputs,
                    of_seed[large].outputs,
                    listed,
                    kind="tokens",
                    loss=loss,
                )
                for first in of_seed
                for large in LARGE
                if first not in (large, TEACHER)
            }
        )
    return rules


def time_stages(
    stages: Sequence[Mapping[str, Stage]],
    programs: Sequence[Mapping[str, latency.Program]],
    answers: Sequence[Mapping[str, Answers]],
    rules: Sequence[Mapping[tuple[str, str], DeferralRule]],
    entries: Entries,
    words: int,
    rounds: int,
) -> Split:
    """Times each stage alone, and what a rule adds that defers nothing.

    Args:
        stages: by seed, then by name.
        programs: likewise, of `compile_stages`.
        answers: likewise.
        rules: by seed, then by the pair of stages.
        entries: the words of the split.
        words: how many are timed.
        rounds: how often each.
    """
    places = latency.timed_words(entries, words)
    rows = latency.rows_of(entries, places)
    times, rule_ms = [], []
    for seed, of_seed in enumerate(stages):
        rule = latency.compile_cascade(
            [of_seed[SPRINTER].model, of_seed[TEACHER].model],
            rules[seed][SPRINTER, TEACHER],
            latency.NEVER,
        )
        ms = latency.word_milliseconds(
            {**programs[seed], "rule": rule}, rows, rounds
        )
        rule_ms.append(float(np.median(ms.pop("rule") - ms[SPRINTER])))
        times.append(ms)
    return Split(answers, places, times, rule_ms)


class Whole(NamedTuple):
    """Systems that were run as a whole.

    Attributes:
        split: answers and times of the stages, timed in turns with them.
        ms: milliseconds of each word, by system, `[seeds, words]`.
        differ: answers that are not those of the stages by themselves, where
            the compiled program rounds otherwise.
    """

    split: Split
    ms: dict[System, np.ndarray]
    differ: int

    def outcomes(
        self, systems: Iterable[System], deferral: Deferral
    ) -> dict[System, Outcome]:
        """Returns what systems do; of those not run, put together.

        Args:
            systems: any.
            deferral: says which words are deferred.
        """
        return {
            system: outcome(system, self.split, deferral, self.ms.get(system))
            for system in systems
        }


def time_whole(
    systems: Sequence[System],
    programs: Sequence[Mapping[str, latency.Program]],
    answers: Sequence[Mapping[str, Answers]],
    deferral: Deferral,
    entries: Entries,
    rounds: int,
) -> Whole:
    """Times systems as they would be served, in turns.

    Args:
        systems: stages alone, and cascades.
        programs: by seed, then by the name of a system.
        answers: by seed, then by stage.
        deferral: rules and thresholds.
        entries: the words of the split.
        rounds: how often each word is timed.
    """
    validation = deferral.validation
    places = latency.timed_words(entries, len(validation.places))
    split = Split(answers, places, [], validation.rule_ms)
    rows = latency.rows_of(entries, places)
    differ = 0
    for seed, of_seed in enumerate(programs):
        timed = {system.name: of_seed[system.name] for system in systems}
        for system in systems:
            if system.large is not None:
                differ += _different(
                    timed[system.name], system, seed, split, deferral, rows
                )
        split.ms.append(latency.word_milliseconds(timed, rows, rounds))
    ms = {
        system: np.stack([of_seed[system.name] for of_seed in split.ms])
        for system in systems
    }
    return Whole(split, ms, differ)


def compile_cascades(
    systems: Sequence[System],
    stages: Sequence[Mapping[str, Stage]],
    programs: Sequence[dict[str, latency.Program]],
    deferral: Deferral,
) -> None:
    """Adds the programs of those cascades that have none yet.

    Args:
        systems: of which some may be stages alone.
        stages: by seed, then by name.
        programs: by seed, then by the name of a system.
        deferral: rules and thresholds.
    """
    for seed, of_seed in enumerate(stages):
        for system in systems:
            if system.name in programs[seed] or system.large is None:
                continue
            first = of_seed[system.first]
            programs[seed][system.name] = latency.compile_cascade(
                [first.model, of_seed[system.large].model],
                deferral.rules[seed][system.first, system.large],
                deferral.threshold(system, seed),
                first.policy,
            )


def compile_stages(of_seed: Mapping[str, Stage]) -> dict[str, latency.Program]:
    """Returns the program of each stage of a seed alone."""
    programs: dict[str, latency.Program] = {}
    compiled: dict[int, latency.ExitingProgram] = {}
    for name, (model, policy) in of_seed.items():
        if policy is None:
            programs[name] = latency.compile_stage(model)
            continue
        # Thresholds are an argument of one program.
        if id(model) not in compiled:
            compiled[id(model)] = latency.compile_exits(model, policy)
        programs[name] = latency.at_threshold(
            compiled[id(model)], policy.threshold
        )
    return programs


def _different(
    program: latency.Program,
    system: System,
    seed: int,
    split: Split,
    deferral: Deferral,
    rows: Sequence[tf.Tensor],
) -> int:
    answers = split.answers[seed]
    deferred = deferral.deferred(system, seed, split)
    number = 0
    for row, place in zip(rows, split.places, strict=True):
        stage = str(system.large) if deferred[place] else system.first
        wanted = answers[stage].token_ids[place]
        number += not np.array_equal(program(row)["token_ids"][0], wanted)
    return number
