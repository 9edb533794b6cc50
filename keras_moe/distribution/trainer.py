"""A training loop for every strategy of `tf.distribute`."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_moe.distribution.checkpoints import Checkpoints
from keras_moe.distribution.checks import check_accumulation
from keras_moe.distribution.checks import check_model
from keras_moe.distribution.epoch_batches import Data
from keras_moe.distribution.epoch_batches import EpochBatches
from keras_moe.distribution.epoch_batches import whole_batch
from keras_moe.distribution.name_nonfinite import name_nonfinite
from keras_moe.distribution.nonfinite import NonFinite
from keras_moe.distribution.nonfinite import first_nonfinite
from keras_moe.distribution.position import Position
from keras_moe.distribution.train_step import make_test_steps
from keras_moe.distribution.train_step import make_train_steps
from keras_moe.distribution.variables import all_finite
from keras_moe.distribution.variables import build_state
from keras_moe.distribution.workers import Workers
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
    epoch: `lambda epoch: examples.shuffle(1000, seed=epoch).batch(32)`.
    What callbacks remember is not kept.

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
    >>> trainer = keras_moe.distribution.Trainer(model)
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
            callbacks: Keras's, or a `keras.callbacks.CallbackList`.
            initial_epoch: where to begin if there is no checkpoint.
            verbose: 0 is silent, 1 a progress bar, 2 a line an epoch.

        Returns:
            The history of the epochs that this call trained.

        Raises:
            ValueError: if `data` is not what it must be, or has no length that
                `steps_per_execution` needs.
            FloatingPointError: if a loss is not finite and there are no
                checkpoints, or after `max_retries`; it names the layer, the
                epoch and the batch.
            WorkerLostError: if another worker does not answer any more.
        """
        check_size(epochs=epochs, steps_per_epoch=steps_per_epoch)
        check_not_negative(initial_epoch=initial_epoch)
        batches = EpochBatches(data, self.strategy, steps_per_epoch)
        self.position = Position(epoch=initial_epoch)
        self._suspect = None
        with self._workers.watched(lambda: self.position):
            self._begin(batches)
            batches.seek(*self.position[:2])
            if not self._workers.is_chief:
                verbose = 0
            if not isinstance(callbacks, keras.callbacks.CallbackList):
                callbacks = keras.callbacks.CallbackList(
                    callbacks,
                    add_history=True,
                    add_progbar=verbose != 0,
                    model=self.model,
                    verbose=verbose,
                    epochs=epochs,
                    steps=batches.num_batches,
                )
            self._fit(batches, epochs, validation_data, callbacks)
        return self.model.history

    def evaluate(
        self, data: tf.data.Dataset, steps: int | None = None
    ) -> dict[str, float]:
        """Returns the metrics over a data set of global batches.

        Args:
            data: a `tf.data.Dataset`, as for `fit`.
            steps: batches to look at; by default, all.

        Raises:
            ValueError: if `data` has no end and `steps` is not given.
            WorkerLostError: if another worker does not answer any more.
        """
        check_size(steps=steps)
        batches = EpochBatches(data, self.strategy, steps)
        with self._workers.watched(lambda: self.position):
            self._build(batches)
            batches.seek(0)
            return self._evaluate(batches)

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
        if self.checkpoints is not None and not self._restore():
            # Without one there is nothing to go back to.
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
                self._train_epoch(batches, callbacks)
                if self.checkpoints is not None:
                    self._check_variables()
            except NonFinite as found:
                self._go_back(found, batches)
                continue
            logs = self._results()
            if validation is not None:
                validation.seek(0)
                for name, value in self._evaluate(validation).items():
                    logs[f"val_{name}"] = value
            callbacks.on_epoch_end(epoch, logs)
            stopped = self._stopped()
            if not self._is_within_epoch(batches):
                self.position = self.position._replace(epoch=epoch + 1, batch=0)
            if self.checkpoints is not None:
                self._save(logs)
        if self.checkpoints is not None:
            self.checkpoints.wait()
        callbacks.on_train_end(logs)

    def _is_within_epoch(self, batches: EpochBatches) -> bool:
        """Whether a callback stopped the training before the epoch's end."""
        total = batches.num_batches
        return total is not None and self.position.batch < total

    def _train_epoch(
        self,
        batches: EpochBatches,
        callbacks: keras.callbacks.CallbackList,
    ) -> None:
        """Trains on what is left of the epoch."""
        batches.seek(*self.position[:2])
        if self.position.batch == 0:
            self.model.reset_metrics()
        if batches.num_batches is None and self._batches_of_execution > 1:
            raise ValueError(
                "`steps_per_epoch` must be given for data of unknown length "
                "with `steps_per_execution` or `gradient_accumulation_steps`. "
                "Received: steps_per_epoch=None."
            )
        while (
            batches.num_batches is None
            or self.position.batch < batches.num_batches
        ):
            first = self.position.batch
            if self._is_left_out(batches):
                continue
            count = self._batches_to_take(batches.num_batches)
            callbacks.on_train_batch_begin(first)
            try:
                logs = self._train_steps(batches.iterator, count)
            except tf.errors.OutOfRangeError:
                break
            batches.took(count)
            bad = first_nonfinite(logs)
            if bad is not None:
                raise NonFinite(self.position.epoch, first + bad)
            self._advance(count, -(-count // self.gradient_accumulation_steps))
            if self._suspect is not None:
                self._check_variables()
            callbacks.on_train_batch_end(first + count - 1, logs[-1])
            if self._stopped():
                break
            if self._is_due(count) and self._is_within_epoch(batches):
                self._check_variables()
                self._save({})

    @property
    def _batches_of_execution(self) -> int:
        return self.steps_per_execution * self.gradient_accumulation_steps

    def _batches_to_take(self, total: int | None) -> int:
        """Returns how many batches the next call trains on."""
        epoch, batch = self.position[:2]
        # Up to a batch that spoils, one update a call, each looked at.
        count = self._batches_of_execution
        if self._suspect is not None:
            count = self.gradient_accumulation_steps
        ends = [s for e, s in self.position.skipped if e == epoch and s > batch]
        if self._suspect is not None and self._suspect.epoch == epoch:
            ends.append(self._suspect.batch)
        if total is not None:
            ends.append(total)
        return min([count, *(end - batch for end in ends if end > batch)])

    def _advance(self, num_batches: int, updates: int) -> None:
        self.position = self.position._replace(
            batch=self.position.batch + num_batches,
            step=self.position.step + updates,
        )

    def _is_due(self, count: int) -> bool:
        """Whether the last updates passed a multiple of `every`."""
        if self.checkpoints is None or self.checkpoints.every is None:
            return False
        step, every = self.position.step, self.checkpoints.every
        updates = -(-count // self.gradient_accumulation_steps)
        return step // every > (step - updates) // every

    # === What is not a number ===

    def _check_variables(self) -> None:
        """Raises `NonFinite` if an update spoilt the variables."""
        if not all_finite(self.model):
            epoch, batch = self.position[:2]
            raise NonFinite(epoch, batch - 1, in_update=True)

    def _go_back(self, found: NonFinite, batches: EpochBatches) -> None:
        """Restores the last checkpoint; raises where there is none."""
        if self.checkpoints is None:
            batches.seek(*found.where)
            cause = self._cause(batches)
            if not all_finite(self.model):
                # By now all layers look guilty.
                cause += (
                    " The update has spoilt the variables, too: give "
                    "`checkpoints` to know which layer was the first."
                )
            raise FloatingPointError(f"{found}: {cause}") from None
        skipped = self.position.skipped
        self._suspect = found
        if not self._restore():
            raise FloatingPointError(str(found)) from None
        # Those that are known now are left out on the way, too.
        self.position = self.position._replace(
            skipped=tuple(sorted({*self.position.skipped, *skipped}))
        )

    def _is_left_out(self, batches: EpochBatches) -> bool:
        """Passes over the next batch if it spoils the training."""
        here = self.position[:2]
        if here not in self.position.skipped:
            if self._suspect is None or self._suspect.where != here:
                return False
            self._name(self._cause(batches))
            self.position = self.position._replace(
                skipped=(*self.position.skipped, here)
            )
        else:
            batches.iterator.get_next()
        batches.took(1)
        self._advance(1, 0)
        return True

    def _cause(self, batches: EpochBatches) -> str:
        """Says what fails on the next batch, and takes it."""
        batch = whole_batch(batches.iterator.get_next(), self.strategy)
        return name_nonfinite(self.model, batch)

    def _name(self, cause: str) -> None:
        """Says what the suspect did; raises if it was one too many."""
        suspect, self._suspect = self._suspect, None
        message = f"{suspect}: {cause}"
        if len(self.position.skipped) >= self.max_retries:
            raise FloatingPointError(
                f"{message} As many as max_retries={self.max_retries} batches "
                f"were left out before: {self.position.skipped}."
            )
        warnings.warn(f"{message} It is left out.", stacklevel=4)

    # === Workers ===

    def _restore(self) -> bool:
        """Restores the last checkpoint in all workers, if there is one."""
        if self.checkpoints is None:
            return False
        self.checkpoints.wait()
        self._workers.barrier()
        position = self.checkpoints.restore(self.model)
        step = -1 if position is None else position.step
        if self._workers.differ(step):
            raise RuntimeError(
                "All workers must see the same checkpoints: give them a "
                "directory that all can read. Received: step "
                f"{step} in worker {self._workers.index}, others elsewhere."
            )
        if position is not None:
            self.position = position
        return position is not None

    def _save(self, logs: dict[str, Any]) -> None:
        if self.checkpoints is None:
            return
        metrics = {k: v for k, v in logs.items() if isinstance(v, float)}
        self._workers.save(self.checkpoints, self.model, self.position, metrics)

    def _stopped(self) -> bool:
        """Whether a callback of any worker stopped the training."""
        return self._workers.any(bool(self.model.stop_training))

    # === Metrics ===

    def _evaluate(self, batches: EpochBatches) -> dict[str, float]:
        self.model.reset_metrics()
        batch = 0
        while batches.num_batches is None or batch < batches.num_batches:
            try:
                self._test_steps(batches.iterator, 1)
            except tf.errors.OutOfRangeError:
                break
            batch += 1
        return self._results()

    def _results(self) -> dict[str, Any]:
        """Returns the metrics over all replicas."""
        with self.strategy.scope():
            results = self.model.get_metrics_result()
        values = {name: np.asarray(value) for name, value in results.items()}
        return {
            name: float(value) if value.size == 1 else value
            for name, value in values.items()
        }
