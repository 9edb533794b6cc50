"""Systems made of stages: what they err, and what they cost a word."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.frontier.answers import Answers
from keras_moe.calibration import DeferralRule

# Well below a half, from which on the median word is a deferred one.
SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)


class System(NamedTuple):
    """A stage that answers by itself, or one that defers to another.

    Attributes:
        first: the stage that every word comes to.
        large: the stage that deferred words come to; `None` for no cascade.
        share: of the validation words, those that are deferred.
    """

    first: str
    large: str | None = None
    share: float = 0.0

    @property
    def name(self) -> str:
        """What tables call it."""
        if self.large is None:
            return self.first
        return f"{self.first}, {self.share:.0%} to {self.large}"

    @property
    def family(self) -> str:
        """What it shares with others: all but exits and shares."""
        first = self.first.partition(" at ")[0]
        return first if self.large is None else f"{first} → {self.large}"


class Outcome(NamedTuple):
    """What a system does on a split, for each seed.

    Attributes:
        edits: from the nearest listed pronunciation, `[seeds, n]`.
        lengths: phonemes of that pronunciation, `[seeds, n]`.
        deferred: whether a word was, bool `[seeds, n]`.
        ms: of each timed word, `[seeds, words]`.
    """

    edits: np.ndarray
    lengths: np.ndarray
    deferred: np.ndarray
    ms: np.ndarray

    @property
    def error_rate(self) -> float:
        """Phoneme error rate; mean over the seeds."""
        return float((self.edits.sum(1) / self.lengths.sum(1)).mean())

    @property
    def median_ms(self) -> float:
        """Median over words; mean over the seeds."""
        return float(np.median(self.ms, axis=1).mean())

    @property
    def mean_ms(self) -> float:
        """Mean over words and seeds."""
        return float(self.ms.mean())

    @property
    def deferred_share(self) -> float:
        """Share of words, and seeds."""
        return float(self.deferred.mean())


@dataclasses.dataclass
class Split:
    """All stages on the words of one split.

    Attributes:
        answers: by seed, then by stage.
        places: of the words that are timed.
        ms: milliseconds of the timed words, by seed, then by stage.
        rule_ms: what a rule that defers nothing adds to a stage, by seed.
    """

    answers: Sequence[Mapping[str, Answers]]
    places: np.ndarray
    ms: list[dict[str, np.ndarray]]
    rule_ms: Sequence[float]


@dataclasses.dataclass
class Deferral:
    """Rules, and where their thresholds come from.

    Attributes:
        rules: by seed, then by the pair of stages.
        validation: the split whose words set thresholds.
    """

    rules: Sequence[Mapping[tuple[str, str], DeferralRule]]
    validation: Split

    def threshold(self, system: System, seed: int) -> float:
        """Returns the score above which a share of validation words lies."""
        scores = self._scores(system, seed, self.validation)
        return float(np.quantile(scores, 1.0 - system.share))

    def deferred(self, system: System, seed: int, split: Split) -> np.ndarray:
        """Returns which words of a split are deferred, bool `[n]`."""
        scores = self._scores(system, seed, split)
        # The rule works in float32, in which a threshold may lie elsewhere.
        return scores > np.float32(self.threshold(system, seed))

    def _scores(self, system: System, seed: int, split: Split) -> np.ndarray:
        answers = split.answers[seed][system.first]
        rule = self.rules[seed][system.first, str(system.large)]
        return np.asarray(rule.scores(answers.outputs))


def candidates(
    static: Sequence[str],
    sprinters: Sequence[str],
    exits: Sequence[str],
    large: Sequence[str],
) -> list[System]:
    """Returns all systems that adapt to their words.

    Args:
        static: students that are the baselines; they may come first.
        sprinters: smaller students, which may come first.
        exits: students with early exits, one at each threshold.
        large: what may come second.
    """
    cascades = [
        System(first, second, share)
        for first in (*sprinters, *static, *exits)
        for second in large
        for share in SHARES
        if first != second
    ]
    return [*map(System, exits), *cascades]


def outcome(
    system: System,
    split: Split,
    deferral: Deferral,
    ms: np.ndarray | None = None,
) -> Outcome:
    """Returns what a system does on a split, put together from its stages.

    A cascade's answer to a word is one of its stages'. Unless it was timed,
    its time is predicted: that of the stages that run, and the rule's.

    Args:
        system: which.
        split: its stages' answers and times.
        deferral: says which words are deferred.
        ms: of each timed word, `[seeds, words]`, if it was timed.
    """
    parts, times = [], []
    for seed, answers in enumerate(split.answers):
        first = answers[system.first]
        edits, lengths = first.edits, first.lengths
        deferred = np.zeros(len(edits), bool)
        if system.large is not None:
            deferred = deferral.deferred(system, seed, split)
            second = answers[system.large]
            edits = np.where(deferred, second.edits, edits)
            lengths = np.where(deferred, second.lengths, lengths)
        parts.append((edits, lengths, deferred))
        if ms is None:
            times.append(_predicted_ms(system, seed, split, deferred))
    edits, lengths, deferred = map(np.stack, zip(*parts, strict=True))
    return Outcome(
        edits, lengths, deferred, np.stack(times) if ms is None else ms
    )


def _predicted_ms(
    system: System, seed: int, split: Split, deferred: np.ndarray
) -> np.ndarray:
    ms = split.ms[seed][system.first]
    if system.large is None:
        return ms
    later = split.ms[seed][system.large]
    ms = ms + split.rule_ms[seed]
    return ms + np.where(deferred[split.places], later, 0.0)
