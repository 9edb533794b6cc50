"""A training loop for every strategy of `tf.distribute`."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_moe.backend import refuse_ignored_distribution
from keras_moe.training._build_state import build_state
from keras_moe.training._callback_list import callback_list
from keras_moe.training._checks import check_accumulation
from keras_moe.training._checks import check_length
from keras_moe.training._checks import check_model
from keras_moe.training._epoch_batches import Data
from keras_moe.training._epoch_batches import EpochBatches
from keras_moe.training._epoch_batches import whole_batch
from keras_moe.training._evaluation import evaluated
from keras_moe.training._evaluation import metrics_of
from keras_moe.training._train_step import make_test_steps
from keras_moe.training._train_step import make_train_steps
from keras_moe.training._workers import Workers
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._position import Position
from keras_moe.training.nonfinite._all_finite import all_finite
from keras_moe.training.nonfinite._name_nonfinite import name_nonfinite
from keras_moe.training.nonfinite._nonfinite import NonFinite
from keras_moe.training.nonfinite._nonfinite import check_variables
from keras_moe.training.nonfinite._nonfinite import first_nonfinite
from keras_moe.validation import check_not_negative
from keras_moe.validation import check_size


class Trainer:
    """Trains a compiled model under any strategy, and survives failures.

    What `Model.fit` does, for one device, `MirroredStrategy`,
    `MultiWorkerMirroredStrategy` and `TPUStrategy` (the last is untested on
    TPU hardware), with the model's own `train_step` and `test_step`.

    With `checkpoints`, `fit` begins by restoring the last one, and goes on from
    there: from the batch after the last that it holds. The losses are, bit for
    bit, those of a training that was not interrupted, if the data set gives the
    same batches again. A shuffled one does if `data` is a function of the
    epoch: `lambda epoch: examples.shuffle(1000, seed=epoch).batch(32)`, and
    TensorFlow's global seed (`keras.utils.set_random_seed`) is the same or not
    set. What callbacks remember is not kept.

    A loss that is not a number is found at the end of each call into
    TensorFlow. The trainer goes back to the last checkpoint, trains up to the
    batch that spoilt it, says which layer failed on it, and leaves the batch
    out.

    Under several workers each runs the same program with the same data; the
    directory of checkpoints must be one that all see. The first of them writes
    and shows progress.

    Args:
        model: a model that was made and compiled under its strategy's scope.
        checkpoints: a `Checkpoints`; `None` for a training without them.
        gradient_accumulation_steps: batches of an update, which takes the mean
            of their gradients. The last update of an epoch may have fewer.
        steps_per_execution: updates of a call into TensorFlow; callbacks run
            between calls.
        max_retries: how many batches that spoil the training may be left out.

    Raises:
        ValueError: if the model is not compiled, or in a way that this loop
            cannot follow.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    >>> data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    >>> trainer = keras_moe.training.Trainer(model)
    >>> history = trainer.fit(data, epochs=2, verbose=0)
    >>> len(history.history["loss"])
    2
    >>> sorted(trainer.evaluate(data))
    ['loss']
    """

    def __init__(
        self,
        model: keras.Model,
        checkpoints: Checkpoints | None = None,
        gradient_accumulation_steps: int = 1,
        steps_per_execution: int = 1,
        max_retries: int = 3,
    ):
        check_size(
            gradient_accumulation_steps=gradient_accumulation_steps,
            steps_per_execution=steps_per_execution,
        )
        check_not_negative(max_retries=max_retries)
        check_model(model)
        check_accumulation(model, gradient_accumulation_steps)
        self.model = model
        self.checkpoints = checkpoints
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.steps_per_execution = steps_per_execution
        self.max_retries = max_retries
        refuse_ignored_distribution()
        self.strategy = model.distribute_strategy
        self.position = Position()
        self._workers = Workers(self.strategy)
        self._train_steps: Any = None
        self._test_steps: Any = None
        # What spoilt the training, while it is trained up to once more.
        self._suspect: NonFinite | None = None

    def fit(
        self,
        data: Data,
        epochs: int = 1,
        steps_per_epoch: int | None = None,
        validation_data: tf.data.Dataset | None = None,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        initial_epoch: int = 0,
        verbose: int | str = "auto",
    ) -> keras.callbacks.History:
        """Trains the model.

        Args:
            data: a `tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)`
                with the global batch, or a function from the number of an
                epoch, from 0, to one.
            epochs: the epoch to end before, counted from 0.
            steps_per_epoch: batches of an epoch; by default, as many as `data`
                has. A data set then goes on where the last epoch ended, and
                from the start again when it ends.
            validation_data: evaluated after each epoch.
            callbacks: Keras's, as for `Model.fit`.
            initial_epoch: where to begin if there is no checkpoint.
            verbose: 0 is silent, 1 a progress bar, 2 a line an epoch.

        Returns:
            The history of the epochs that this call trained.

        Raises:
            ValueError: if `data` is not what it must be.
            FloatingPointError: if a loss is not finite, without checkpoints or
                after `max_retries`; it names layer, epoch and batch.
            WorkerLostError: if another worker does not answer any more.
        """
        check_size(epochs=epochs, steps_per_epoch=steps_per_epoch)
        check_not_negative(initial_epoch=initial_epoch)
        batches = EpochBatches(data, self.strategy, steps_per_epoch)
        self.position = Position(epoch=initial_epoch)
        self._suspect = None
        with self._workers.watched(lambda: self.position):
            self._begin(batches)
            listed = callback_list(
                callbacks,
                self.model,
                verbose if self._workers.is_chief else 0,
                epochs,
                batches.length(self.position.epoch),
            )
            self._fit(batches, epochs, validation_data, listed)
        return self.model.history

    def evaluate(
        self, data: tf.data.Dataset, steps: int | None = None
    ) -> dict[str, float]:
        """Returns the metrics over a data set of global batches.

        Args:
            data: a `tf.data.Dataset`, as for `fit`.
            steps: batches to look at; by default, all.

        Raises:
            ValueError: if there are no `steps`, and `data` has no end.
            WorkerLostError: if another worker does not answer any more.
        """
        check_size(steps=steps)
        if steps is not None:
            data = data.take(steps)
        batches = EpochBatches(data, self.strategy)
        with self._workers.watched(lambda: self.position):
            self._build(batches)
            return evaluated(self.model, self._test_steps, batches)

    def _build(self, batches: EpochBatches) -> None:
        with self.strategy.scope():
            build_state(self.model, batches.element_spec())
        if self._test_steps is None:
            self._test_steps = make_test_steps(self.model)

    def _begin(self, batches: EpochBatches) -> None:
        """Makes the model's state, or restores it."""
        self._build(batches)
        if self._train_steps is None:
            # The one place that knows how a step is made.
            self._train_steps = make_train_steps(
                self.model,
                self.steps_per_execution,
                self.gradient_accumulation_steps,
            )
        if not self._restore():
            # There must be one to go back to.
            self._save({})

    def _fit(
        self,
        batches: EpochBatches,
        epochs: int,
        validation_data: tf.data.Dataset | None,
        callbacks: keras.callbacks.CallbackList,
    ) -> None:
        validation = None
        if validation_data is not None:
            validation = EpochBatches(validation_data, self.strategy)
        self.model.stop_training = False
        callbacks.on_train_begin()
        begun, logs, stopped = -1, {}, False
        while self.position.epoch < epochs and not stopped:
            epoch = self.position.epoch
            if begun != epoch:
                callbacks.on_epoch_begin(epoch)
                begun = epoch
            try:
                ended = self._train_epoch(batches, callbacks)
                if self.checkpoints is not None:
                    check_variables(self.model, self.position)
            except NonFinite as found:
                self._go_back(found, batches)
                continue
            logs = metrics_of(self.model)
            if validation is not None:
                said = evaluated(self.model, self._test_steps, validation)
                logs.update({f"val_{k}": value for k, value in said.items()})
            callbacks.on_epoch_end(epoch, logs)
            stopped = self._stopped()
            if ended:
                self.position = self.position._replace(epoch=epoch + 1, batch=0)
            self._save(logs)
        if self.checkpoints is not None:
            self.checkpoints.wait()
        callbacks.on_train_end(logs)

    def _train_epoch(
        self,
        batches: EpochBatches,
        callbacks: keras.callbacks.CallbackList,
    ) -> bool:
        """Trains on what is left of the epoch; returns whether it ended."""
        batches.seek(*self.position[:2])
        if self.position.batch == 0:
            self.model.reset_metrics()
        total = batches.num_batches
        accumulation = self.gradient_accumulation_steps
        most = accumulation * self.steps_per_execution
        check_length(total, most)
        while total is None or self.position.batch < total:
            first = self.position.batch
            try:
                if self._is_left_out(batches):
                    continue
                # One update at a time on the way to a suspect.
                suspect = self._suspect
                count = self.position.batches_to_take(
                    total,
                    accumulation if suspect else most,
                    suspect.where if suspect else None,
                )
                callbacks.on_train_batch_begin(first)
                logs = self._train_steps(batches.iterator, count)
            except tf.errors.OutOfRangeError:
                return True
            batches.took(count)
            bad = first_nonfinite(logs)
            if bad is not None:
                raise NonFinite(self.position.epoch, first + bad)
            updates = -(-count // accumulation)
            self.position = self.position.advanced(count, updates)
            if self._suspect:
                check_variables(self.model, self.position)
            callbacks.on_train_batch_end(first + count - 1, logs[-1])
            if self._stopped():
                return self.position.batch == total
            if self._is_due(updates) and self.position.batch != total:
                check_variables(self.model, self.position)
                self._save({})
        return True

    def _go_back(self, found: NonFinite, batches: EpochBatches) -> None:
        """Restores the last checkpoint; raises where there is none."""
        if self.checkpoints is None:
            batches.seek(*found.where)
            spoilt = not all_finite(self.model)
            raise found.without_a_way_back(
                self._cause(batches), spoilt
            ) from None
        skipped = self.position.skipped
        self._suspect = found
        if not self._restore():
            raise FloatingPointError(str(found)) from None
        # Those that are known now are left out on the way, too.
        self.position = self.position.with_skipped(skipped)

    def _is_left_out(self, batches: EpochBatches) -> bool:
        """Passes over the next batch if it spoils the training."""
        here = self.position[:2]
        if here in self.position.skipped:
            batches.iterator.get_next()
        elif self._suspect is not None and self._suspect.where == here:
            self._name(self._suspect, self._cause(batches))
            self._suspect = None
            self.position = self.position.with_skipped([here])
        else:
            return False
        batches.took(1)
        self.position = self.position.advanced(1, 0)
        return True

    def _cause(self, batches: EpochBatches) -> str:
        """Says what fails on the next batch, and takes it."""
        batch = whole_batch(batches.iterator.get_next(), self.strategy)
        return name_nonfinite(self.model, batch)

    def _name(self, suspect: NonFinite, cause: str) -> None:
        """Says what the suspect did; raises if it was one too many."""
        skipped = self.position.skipped
        if len(skipped) >= self.max_retries:
            raise suspect.one_too_many(cause, skipped, self.max_retries)
        warnings.warn(f"{suspect}: {cause} It is left out.", stacklevel=5)

    def _is_due(self, updates: int) -> bool:
        checkpoints = self.checkpoints
        return checkpoints is not None and checkpoints.are_due(
            self.position.step, updates
        )

    def _restore(self) -> bool:
        """Restores the last checkpoint in all workers, if there is one."""
        if self.checkpoints is None:
            return False
        position = self._workers.restore(self.checkpoints, self.model)
        self.position = position or self.position
        return position is not None

    def _save(self, logs: dict[str, Any]) -> None:
        if self.checkpoints is not None:
            self._workers.save(
                self.checkpoints, self.model, self.position, logs
            )

    def _stopped(self) -> bool:
        """Whether a callback of any worker stopped the training."""
        return self._workers.any(bool(self.model.stop_training))
