"""Recovery of a training from batches that give NaN or infinity."""

import warnings

import keras

from keras_moe.training._epoch_batches import EpochBatches
from keras_moe.training._replica_batches import gather_batch
from keras_moe.training._worker_checkpoints import WorkerCheckpoints
from keras_moe.training.checkpoints._position import Position
from keras_moe.training.nonfinite._all_finite import all_finite
from keras_moe.training.nonfinite._name_nonfinite import name_nonfinite
from keras_moe.training.nonfinite._nonfinite_error import NonfiniteError
from keras_moe.training.nonfinite._nonfinite_error import check_variables

# Frames between the user's call of `fit` and the warning, which should point
# there.
_FRAMES_BELOW_USER = 6


class Recovery:
    """Goes back to the last checkpoint, and leaves bad batches out.

    When a batch gave NaN or infinity, `go_back` restores the last checkpoint
    and makes that batch the suspect. The loop then trains up to it one update
    at a time, so that the first update that fails is found, `leave_out` says
    which layer fails on the suspect, and passes over it.

    Args:
        model: the model that is trained, built.
        checkpoints: where to go back to.
        max_retries: how many batches may be left out.

    Attributes:
        suspect: the error of the batch that is to be diagnosed and left out
            when it comes again; `None` if there is none.
    """

    def __init__(
        self,
        model: keras.Model,
        checkpoints: WorkerCheckpoints,
        max_retries: int,
    ):
        self.model = model
        self.checkpoints = checkpoints
        self.max_retries = max_retries
        self.suspect: NonfiniteError | None = None

    def batches_to_take(
        self,
        position: Position,
        total: int | None,
        batches_per_update: int,
        updates_per_call: int,
    ) -> int:
        """Returns how many batches the next call into TensorFlow trains on.

        Args:
            position: where the training stands.
            total: batches of the epoch; `None` if it is not known.
            batches_per_update: how many batches an update takes.
            updates_per_call: the most updates of a call.
        """
        if self.suspect is not None:
            return position.batches_to_take(
                total, batches_per_update, self.suspect.where
            )
        return position.batches_to_take(
            total, batches_per_update * updates_per_call
        )

    def check_variables(self, position: Position) -> None:
        """Raises `NonfiniteError` if the last update spoilt the variables.

        Without checkpoints nothing is checked: nothing would be saved.

        Args:
            position: where the training stands, after the last update.
        """
        if self.checkpoints.are_kept:
            check_variables(self.model, position.epoch, position.batch - 1)

    def go_back(
        self, error: NonfiniteError, position: Position, batches: EpochBatches
    ) -> Position:
        """Restores the last checkpoint, and suspects the batch of the error.

        Args:
            error: the error of the loop.
            position: where the training stands.
            batches: the batches of the epoch.

        Returns:
            The position of the checkpoint.

        Raises:
            FloatingPointError: if there is no checkpoint.
        """
        if not self.checkpoints.are_kept:
            raise self._error_without_checkpoints(error, batches) from None
        self.suspect = error
        restored = self.checkpoints.restore()
        if restored is None:
            raise FloatingPointError(str(error)) from None
        # The checkpoint does not know of batches that were found bad after it.
        return restored.with_skipped(position.skipped)

    def leave_out(
        self, position: Position, batches: EpochBatches
    ) -> Position | None:
        """Passes over the next batch if it is a bad one.

        A suspect is diagnosed first: a warning says which layer fails on it.

        Args:
            position: where the training stands.
            batches: the batches of the epoch, with their iterator at
                `position`.

        Returns:
            The position after the batch; `None` if it is to be trained on.

        Raises:
            FloatingPointError: if `max_retries` batches were left out before.
        """
        here = position.where
        if here in position.skipped:
            batches.iterator.get_next()
        elif self.suspect is not None and self.suspect.where == here:
            cause = self._cause(batches)
            self._warn(self.suspect, cause, position)
            self.suspect = None
            position = position.with_skipped([here])
        else:
            return None
        batches.advance(1)
        return position.advanced(num_batches=1, updates=0)

    def _warn(
        self, suspect: NonfiniteError, cause: str, position: Position
    ) -> None:
        """Warns that the suspect is left out; raises where it must not be."""
        if len(position.skipped) >= self.max_retries:
            raise FloatingPointError(
                f"{suspect}: {cause} No more than `max_retries` batches may be "
                f"left out. Received: max_retries={self.max_retries}, left "
                f"out (epoch, batch): {list(position.skipped)}."
            )
        warnings.warn(
            f"{suspect}: {cause} It is left out.",
            stacklevel=_FRAMES_BELOW_USER,
        )

    def _error_without_checkpoints(
        self, error: NonfiniteError, batches: EpochBatches
    ) -> FloatingPointError:
        """Returns the error that names the cause with variables as they are."""
        batches.seek(*error.where)
        message = f"{error}: {self._cause(batches)}"
        if not all_finite(self.model):
            # Every layer that the NaN weights feed now looks guilty.
            message += (
                " The update has spoilt the variables, too: give `checkpoints` "
                "to know which layer was the first."
            )
        return FloatingPointError(message)

    def _cause(self, batches: EpochBatches) -> str:
        """Takes the next batch, and says what fails on it."""
        batch = gather_batch(batches.iterator.get_next(), batches.strategy)
        return name_nonfinite(self.model, batch)
