"""One run: a model trained under the schedule that all share."""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.shared.kept_checkpoints import kept_checkpoints
from benchmarks.shared.learning_curve import LearningCurve
from benchmarks.switch_pretraining import model as models
from benchmarks.switch_pretraining import records
from benchmarks.switch_pretraining import span_corruption
from benchmarks.switch_pretraining.corpus import Corpus
from benchmarks.switch_pretraining.records import Point
from benchmarks.switch_pretraining.records import Record
from benchmarks.switch_pretraining.span_corruption import Corrupted
from benchmarks.switch_pretraining.span_corruption import span_counts
from keras_moe.losses import token_crossentropy
from keras_moe.training import Trainer

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
    folder: pathlib.Path,
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
        folder: of the records. The record is written there, and until then what
            a killed run goes on from.
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
    curve = LearningCurve(
        _make_evaluation(model, corpus, schedule), time.process_time
    )

    def points() -> tuple[Point, ...]:
        return tuple(Point(**point) for point in curve.points)

    def set_rate(batch: int, logs: dict | None) -> None:
        step = int(model.optimizer.iterations) + 1
        model.optimizer.learning_rate = schedule.learning_rate_at(step)

    def stop_at_the_end(*_: Any, **__: Any) -> None:
        spent = int(model.optimizer.iterations) >= schedule.steps
        enough = target is not None and any(
            point.loss <= target for point in points()
        )
        model.stop_training = spent or enough

    def tell(epoch: int, logs: dict | None) -> None:
        on_point(points()[-1])
        stop_at_the_end()

    settings = {
        "counts": corpus.counts().tolist(),
        "sizes": dataclasses.asdict(sizes),
        "variant": dataclasses.asdict(variant),
        "schedule": dataclasses.asdict(schedule),
        "seed": seed,
        "target": target,
    }
    name = records.path_of(folder, variant.name, seed).stem
    with kept_checkpoints(folder, name, settings) as checkpoints:
        Trainer(model, checkpoints).fit(
            stream(corpus.train, schedule.rows, seed),
            # `stop_at_the_end` ends the training.
            epochs=schedule.steps,
            steps_per_epoch=schedule.steps_per_evaluation,
            callbacks=[
                curve,
                keras.callbacks.LambdaCallback(
                    on_train_begin=stop_at_the_end,
                    on_train_batch_begin=set_rate,
                    on_train_batch_end=stop_at_the_end,
                    on_epoch_end=tell,
                ),
            ],
            verbose=0,
        )
        record = Record(
            variant.name, seed, model.count_params(), target, points()
        )
        records.write(folder, record)
    return record


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


def stream(rows: np.ndarray, count: int, seed: int) -> tf.data.Dataset:
    """Returns `batches` as inputs and labels of the model."""

    def generate() -> Iterator[tuple]:
        for batch in batches(rows, count, seed):
            yield (batch.token_ids, batch.positions), batch.labels

    length = rows.shape[1]
    places = tf.TensorSpec((count, span_counts(length)[0]), tf.int32)
    ids = tf.TensorSpec((count, length), tf.int32)
    return tf.data.Dataset.from_generator(
        generate, output_signature=((ids, places), places)
    )


def _loss(labels, logits):
    return token_crossentropy(labels, logits, pad_id=_NEVER)


def _make_evaluation(
    model: models.Pretrained, corpus: Corpus, schedule: Schedule
) -> Callable[[], dict[str, float]]:
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

    def evaluate() -> dict[str, float]:
        losses = [loss_of(*map(tf.constant, batch)) for batch in held_out]
        sizes = [batch.labels.size for batch in held_out]
        return {"loss": float(np.average(losses, weights=sizes))}

    return evaluate
