"""A training loop for every strategy of `tf.distribute`."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_moe.backend import refuse_ignored_distribution
from keras_moe.training._build_state import build_state
from keras_moe.training._callback_list import callback_list
from keras_moe.training._compiled_steps import make_test_steps
from keras_moe.training._compiled_steps import make_train_steps
from keras_moe.training._epoch_batches import Data
from keras_moe.training._epoch_batches import EpochBatches
from keras_moe.training._evaluate import evaluate
from keras_moe.training._evaluate import read_metrics
from keras_moe.training._recovery import Recovery
from keras_moe.training._trainer_checks import check_accumulation
from keras_moe.training._trainer_checks import check_length
from keras_moe.training._trainer_checks import check_model
from keras_moe.training._watched_batches import watch_batches
from keras_moe.training._worker_checkpoints import WorkerCheckpoints
from keras_moe.training._workers import Workers
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._position import Position
from keras_moe.training.nonfinite._nonfinite_error import NonfiniteError
from keras_moe.training.nonfinite._nonfinite_error import check_losses
from keras_moe.validation import check_not_negative
from keras_moe.validation import check_size


class Trainer:
    """Trains a compiled model under any strategy, and survives failures.

    `Trainer.fit` does what `Model.fit` does, with the model's own `train_step`
    and `test_step`, on one device and under `MirroredStrategy`,
    `MultiWorkerMirroredStrategy` and `TPUStrategy` (the last is untested on
    TPU hardware).

    With `checkpoints`, `fit` begins by restoring the last one, and goes on with
    the batch after it. The losses are, bit for bit, those of a training that
    was not interrupted, if the data set gives the same batches again. A
    shuffled one does if `data` is a function of the epoch: `lambda epoch:
    examples.shuffle(1000, seed=epoch).batch(32)`, and TensorFlow's global seed
    (`keras.utils.set_random_seed`) is the same or not set.

    A callback keeps its state with the checkpoint, and has it back before
    `on_train_begin`, if it has the methods `get_state() -> dict`, with values
    that JSON can hold, and `set_state(state)`. That of other callbacks begins
    anew. The history that `fit` returns is kept.

    A loss that is NaN or infinite is found at the end of each call into
    TensorFlow. The trainer then goes back to the last checkpoint, trains up to
    the batch that gave it, warns which layer failed on that batch, and leaves
    the batch out.

    Several workers each run the same program with the same data; all must see
    the directory of checkpoints. The chief writes and shows progress.

    Args:
        model: a model that was made and compiled under its strategy's scope.
        checkpoints: a `Checkpoints`; `None` for a training without them.
        gradient_accumulation_steps: batches of an update, which takes the mean
            of their gradients. The last update of an epoch may have fewer.
        steps_per_execution: updates of a call into TensorFlow; callbacks run
            between calls.
        max_retries: how many batches that give NaN may be left out.

    Attributes:
        position: where the training stands, a `Position`.

    Raises:
        ValueError: if the model is not compiled, or compiled with options that
            this loop does not support; the message names them.

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
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.steps_per_execution = steps_per_execution
        self.max_retries = max_retries
        refuse_ignored_distribution()
        self.strategy = model.distribute_strategy
        self.position = Position()
        self._workers = Workers(self.strategy)
        self._checkpoints = WorkerCheckpoints(model, self._workers, checkpoints)
        self._train_steps: Any = None
        self._test_steps: Any = None

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
            callbacks: Keras's callbacks, as for `Model.fit`.
            initial_epoch: where to begin if there is no checkpoint.
            verbose: 0 is silent, 1 a progress bar, 2 a line an epoch.

        Returns:
            The history of the training: of this call and, where it resumed
            from a checkpoint, of the epochs before.

        Raises:
            ValueError: if `data` is no data set, or has no end.
            FloatingPointError: if a loss is not finite, and there are no
                checkpoints or `max_retries` batches were left out before. The
                message names layer, epoch and batch.
            WorkerLostError: if another worker does not answer any more.
        """
        check_size(epochs=epochs, steps_per_epoch=steps_per_epoch)
        check_not_negative(initial_epoch=initial_epoch)
        pad_id = getattr(getattr(self.model, "config", None), "pad_id", 0)
        watched = watch_batches(data, None, pad_id)
        batches = EpochBatches(watched, self.strategy, steps_per_epoch)
        validation = None
        if validation_data is not None:
            validation = EpochBatches(validation_data, self.strategy)
        self.position = Position(epoch=initial_epoch)
        with self._workers.watched(lambda: self.position):
            self._build(batches)
            listed = callback_list(
                callbacks,
                self.model,
                verbose if self._workers.is_chief else 0,
                epochs,
                batches.length(initial_epoch),
            )
            self._begin(listed)
            self._fit(batches, epochs, validation, listed)
        return self.model.history

    def evaluate(
        self, data: tf.data.Dataset, steps: int | None = None
    ) -> dict[str, float]:
        """Returns the metrics over a data set of global batches.

        Args:
            data: a `tf.data.Dataset`, as for `fit`.
            steps: batches to evaluate; by default, all.

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
            return evaluate(self.model, self._test_steps, batches)

    def _build(self, batches: EpochBatches) -> None:
        with self.strategy.scope():
            build_state(self.model, batches.element_spec())
        if self._test_steps is None:
            self._test_steps = make_test_steps(self.model)

    def _begin(self, callbacks: keras.callbacks.CallbackList) -> None:
        """Restores the last checkpoint, or saves the first."""
        self._checkpoints.callbacks = callbacks.callbacks
        if self._train_steps is None:
            self._train_steps = make_train_steps(
                self.model,
                self.steps_per_execution,
                self.gradient_accumulation_steps,
            )
        restored = self._checkpoints.restore()
        if restored is not None:
            self.position = restored
        else:
            # Without a checkpoint, a bad batch before the first one that is
            # due would end the training.
            self._checkpoints.save(self.position, {})

    def _fit(
        self,
        batches: EpochBatches,
        epochs: int,
        validation: EpochBatches | None,
        callbacks: keras.callbacks.CallbackList,
    ) -> None:
        recovery = Recovery(self.model, self._checkpoints, self.max_retries)
        self.model.stop_training = False
        callbacks.on_train_begin()
        # A training that was stopped, and was killed later, is at its end.
        begun, logs, stopped = -1, {}, self._stopped()
        while self.position.epoch < epochs and not stopped:
            epoch = self.position.epoch
            if begun != epoch:
                # `on_epoch_begin` is called once an epoch, also if the epoch is
                # trained again.
                callbacks.on_epoch_begin(epoch)
                begun = epoch
            try:
                ended = self._train_epoch(batches, callbacks, recovery)
                recovery.check_variables(self.position)
            except NonfiniteError as error:
                self.position = recovery.go_back(error, self.position, batches)
                continue
            logs = self._epoch_logs(validation)
            callbacks.on_epoch_end(epoch, logs)
            stopped = self._stopped()
            if ended:
                self.position = self.position._replace(epoch=epoch + 1, batch=0)
            self._checkpoints.save(self.position, logs)
        self._checkpoints.wait()
        callbacks.on_train_end(logs)

    def _train_epoch(
        self,
        batches: EpochBatches,
        callbacks: keras.callbacks.CallbackList,
        recovery: Recovery,
    ) -> bool:
        """Trains on what is left of the epoch; returns whether it ended."""
        batches.seek(*self.position.where)
        if self.position.batch == 0:
            self.model.reset_metrics()
        total = batches.num_batches
        accumulation = self.gradient_accumulation_steps
        check_length(total, accumulation * self.steps_per_execution)
        while total is None or self.position.batch < total:
            first = self.position.batch
            try:
                after_bad = recovery.leave_out(self.position, batches)
                if after_bad is not None:
                    self.position = after_bad
                    continue
                count = recovery.batches_to_take(
                    self.position, total, accumulation, self.steps_per_execution
                )
                callbacks.on_train_batch_begin(first)
                logs = self._train_steps(batches.iterator, count)
            except tf.errors.OutOfRangeError:
                return True
            batches.advance(count)
            check_losses(logs, self.position.epoch, first)
            updates = -(-count // accumulation)
            self.position = self.position.advanced(count, updates)
            if recovery.suspect is not None:
                recovery.check_variables(self.position)
            callbacks.on_train_batch_end(first + count - 1, logs[-1])
            if self._stopped():
                return self.position.batch == total
            due = self._checkpoints.are_due(self.position.step, updates)
            if due and self.position.batch != total:
                recovery.check_variables(self.position)
                self._checkpoints.save(self.position, {})
        return True

    def _epoch_logs(self, validation: EpochBatches | None) -> dict[str, Any]:
        """Returns the metrics of the epoch, and of the validation after it."""
        logs = read_metrics(self.model)
        if validation is not None:
            found = evaluate(self.model, self._test_steps, validation)
            logs.update({f"val_{k}": value for k, value in found.items()})
        return logs

    def _stopped(self) -> bool:
        """Says whether a callback of any worker stopped the training."""
        return self._workers.any(bool(self.model.stop_training))
