"""One run: a model trained under the schedule that all share."""

import dataclasses
import time
from collections.abc import Callable
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from benchmarks.switch_pretraining import model as models
from benchmarks.switch_pretraining import span_corruption
from benchmarks.switch_pretraining.corpus import Corpus
from benchmarks.switch_pretraining.records import Point
from benchmarks.switch_pretraining.records import Record
from benchmarks.switch_pretraining.span_corruption import Corrupted
from keras_moe.losses import token_crossentropy

# A seed that no run has: all runs are evaluated on the same corruption.
_HELD_OUT_SEED = 20_000
_NEVER = -1  # an id that no label has


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How all variants are trained, and how long.

    Attributes:
        steps: updates of the dense model, and at most of any other.
        rows: rows of a batch.
        learning_rate: Adam's, where the warm-up ends.
        warmup: updates in which it rises; after that it falls with the
            inverse square root of the step, as T5's does (arXiv:1910.10683),
            so that the loss at a step does not depend on the steps to come.
        steps_per_evaluation: updates between two evaluations.
        held_out_rows: rows of the evaluation.
    """

    steps: int = 1500
    rows: int = 256
    learning_rate: float = 0.02
    warmup: int = 100
    steps_per_evaluation: int = 25
    held_out_rows: int = 512

    def learning_rate_at(self, step: int) -> float:
        """Returns the learning rate of update `step`, from 1."""
        rising = step / self.warmup
        return self.learning_rate * min(rising, rising**-0.5)


def train(
    corpus: Corpus,
    sizes: models.Sizes,
    variant: models.Variant,
    schedule: Schedule,
    seed: int,
    target: float | None = None,
    on_point: Callable[[Point], None] = lambda point: None,
) -> Record:
    """Trains until the held-out loss is at `target`, or the steps are spent.

    Args:
        corpus: the rows.
        sizes: of the model.
        variant: of the model.
        schedule: how to train.
        seed: of the weights, the order of the rows and their corruption.
        target: the loss that is enough; `None` spends all steps.
        on_point: is told of each evaluation.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = models.Pretrained(sizes, variant, corpus.counts())
    model.build()
    model.compile(
        keras.optimizers.Adam(schedule.learning_rate),
        loss=_loss,
        # XLA is for accelerators; here it is slower.
        jit_compile=False,
    )
    held_out_loss = _make_evaluation(model, corpus, schedule)
    stream = batches(corpus.train, schedule.rows, seed)
    seconds = 0.0
    curve: list[Point] = []
    for step in range(1, schedule.steps + 1):
        batch = next(stream)
        began = time.process_time()
        model.optimizer.learning_rate = schedule.learning_rate_at(step)
        model.train_on_batch([batch.token_ids, batch.positions], batch.labels)
        # The first update traces the graph, which is not a cost of a step.
        if step > 1:
            seconds += time.process_time() - began
        if step % schedule.steps_per_evaluation and step < schedule.steps:
            continue
        curve.append(Point(step, round(seconds, 2), held_out_loss()))
        on_point(curve[-1])
        if target is not None and curve[-1].loss <= target:
            break
    return Record(
        variant.name, seed, model.count_params(), target, tuple(curve)
    )


def batches(rows: np.ndarray, count: int, seed: int) -> Iterator[Corrupted]:
    """Yields batches without end, corrupted anew each time.

    Args:
        rows: int `[rows, length]`.
        count: rows of a batch.
        seed: of order and corruption: equal seeds, equal batches.
    """
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(len(rows))
        for start in range(0, len(order) - count + 1, count):
            chosen = rows[order[start : start + count]]
            yield span_corruption.corrupt(chosen, generator)


def _loss(labels, logits):
    return token_crossentropy(labels, logits, pad_id=_NEVER)


def _make_evaluation(
    model: models.Pretrained, corpus: Corpus, schedule: Schedule
) -> Callable[[], float]:
    """Returns a function that computes the held-out loss alone."""
    generator = np.random.default_rng(_HELD_OUT_SEED)
    count = min(schedule.held_out_rows, len(corpus.held_out))
    chosen = generator.choice(len(corpus.held_out), count, replace=False)
    held_out = [
        span_corruption.corrupt(corpus.held_out[rows], generator)
        # Held-out batches are as large as in training: expert choice chooses
        # among the tokens of a batch.
        for rows in np.split(chosen, range(schedule.rows, count, schedule.rows))
    ]

    @tf.function
    def loss_of(token_ids, positions, labels):
        logits = model([token_ids, positions], training=False)
        return _loss(labels, logits)

    def evaluate() -> float:
        losses = [loss_of(*map(tf.constant, batch)) for batch in held_out]
        sizes = [batch.labels.size for batch in held_out]
        return float(np.average(losses, weights=sizes))

    return evaluate
