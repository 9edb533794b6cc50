"""Each selector on WordNet's glosses, and whether its draws are unbiased."""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse

from benchmarks.data_efficiency import linear
from benchmarks.shared.glosses import load_glosses
from keras_moe import data

POOL, HELD_OUT = 90_000, 13_800
BUDGET, ROUNDS = 5_000, 6
LEAST = (0.0, 0.01)
DECAYS = (1e-5, 3e-6, 1e-6)
SELECTORS: dict[str, Callable[[], data.Selector]] = {
    "random": data.RandomSelector,
    "margin": data.MarginSelector,
    "entropy": data.EntropySelector,
    "importance_entropy": lambda: data.ImportanceSelector("entropy"),
    "importance_disagreement": lambda: data.ImportanceSelector("disagreement"),
    # Labels are right here: what robustness costs where it is not needed.
    "robust": lambda: data.RobustActiveSelector(num_adversarial=POOL // 10),
}


class Glosses(NamedTuple):
    """Rows of glosses: the pool first, then validation, then test.

    Attributes:
        x: sparse `[n, buckets]`.
        labels: `[n]`.
        keys: identifiers of synsets.
    """

    x: scipy.sparse.csr_array
    labels: np.ndarray
    keys: list[str]

    def recall(self, kernel: np.ndarray, start: int) -> float:
        """Returns the macro recall over the held-out rows from one on."""
        rows = slice(start, start + HELD_OUT)
        answers = linear.probabilities(kernel, self.x[rows])
        return linear.macro_recall(answers, self.labels[rows])


def load(seed: int) -> Glosses:
    """Gives all glosses, in an order of the seed."""
    words, labels, keys = load_glosses(seed)
    return Glosses(linear.tf_idf(words, POOL), labels, keys)


def tune(seeds: int) -> float:
    """Returns the decay that is best on validation rows, for random rows."""
    recalls = np.zeros(len(DECAYS))
    for seed in range(seeds):
        glosses = load(seed)
        for place, decay in enumerate(DECAYS):
            kernel = linear.fit(
                glosses.x[:BUDGET],
                glosses.labels[:BUDGET],
                np.ones(BUDGET),
                decay,
            )
            recalls[place] += glosses.recall(kernel, POOL)
    return DECAYS[int(recalls.argmax())]


def compare(seed: int, decay: float) -> dict[str, tuple[float, float]]:
    """Returns macro recall on validation and test rows, for each selector."""
    glosses = load(seed)
    found = {}
    for name, make in SELECTORS.items():
        selector = make()
        chosen = data.select_in_rounds(
            selector,
            functools.partial(learn, glosses, decay, selector.num_models, seed),
            (np.arange(POOL), glosses.labels[:POOL]),
            BUDGET,
            ROUNDS,
            seed,
            glosses.keys[:POOL],
        )
        kernel = linear.fit(
            glosses.x[chosen.indices],
            glosses.labels[chosen.indices],
            chosen.weights,
            decay,
        )
        found[name] = (
            glosses.recall(kernel, POOL),
            glosses.recall(kernel, POOL + HELD_OUT),
        )
    return found


def learn(
    glosses: Glosses,
    decay: float,
    count: int,
    seed: int,
    rows: np.ndarray,
    weights: np.ndarray,
) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Returns functions from rows to probabilities, learned from some rows.

    The loss is convex: first weights make no difference, and two models would
    never disagree. So the second one learns from a bootstrap sample.
    """
    x, labels = glosses.x[rows], glosses.labels[rows]
    random = np.random.default_rng([seed, len(rows)])
    models = []
    for number in range(count):
        counts = random.poisson(size=len(rows)) if number else 1.0
        kernel = linear.fit(x, labels, weights * counts, decay)
        models.append(
            lambda places, kernel=kernel: linear.probabilities(
                kernel, glosses.x[places]
            )
        )
    return models


def standard_errors(
    seed: int, decay: float, draws: int, pool: int = 3_000, budget: int = 300
) -> dict[str, float]:
    """Returns how far means over draws are from the pool's mean loss.

    In units of their standard errors, without a cap on weights, for each mode,
    and for probabilities bounded from below and not; the loss is that of
    another model than the one that is asked.
    """
    glosses = load(seed)
    rows, first, second = (
        np.arange(start, start + pool) for start in (0, pool, 2 * pool)
    )
    one, two, judge = (
        learn(glosses, decay, 1, seed, part, np.ones(len(part)))[0]
        for part in (first[:800], second[:800], second[800:2000])
    )
    answers = judge(rows)
    losses = -np.log(answers[np.arange(pool), glosses.labels[rows]])
    found = {}
    kinds = itertools.product(("entropy", "disagreement"), LEAST)
    # Draws of their own for each: the same ones would err alike.
    for kind, (mode, least) in enumerate(kinds):
        selector = data.ImportanceSelector(mode, None, min_probability=least)
        models = (one, two)[: selector.num_models]
        scores = selector.probabilities(models, (rows, glosses.labels[rows]))
        means = []
        for number in range(draws):
            drawn = selector.draw(scores, budget, kind, number)
            means.append((drawn.weights * losses[drawn.indices]).mean())
        spread = np.std(means, ddof=1) / np.sqrt(draws)
        away = float(abs(np.mean(means) - losses.mean()) / spread)
        found[f"{mode}_{least}"] = away
    return found
