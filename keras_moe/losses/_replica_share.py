"""How Keras scales losses under `tf.distribute`."""

import contextlib
import contextvars
from collections.abc import Iterator

from keras_moe.backend import num_replicas
from keras_moe.types import Tensor

# Of the thread, and so of the replica, that computes a loss.
_SHARES = contextvars.ContextVar("shares", default=True)


def replica_share() -> float:
    """Returns 1 over the number of replicas that train in step.

    Gradients are summed over replicas: a `compute_loss` of one's own must
    multiply the mean over its replica's examples by this. Keras's own losses
    do so by themselves, but leave a function alone that returns a scalar.
    """
    return 1.0 / num_replicas()


def shared_by_replicas(loss: Tensor) -> Tensor:
    """Returns a scalar loss as Keras would have it: see `replica_share`.

    Where there is one replica, the very tensor that was given.
    """
    share = replica_share()
    if share == 1.0 or not _SHARES.get():
        return loss
    return loss * share


@contextlib.contextmanager
def of_this_replica() -> Iterator[None]:
    """Inside, `shared_by_replicas` leaves losses alone: the caller scales."""
    token = _SHARES.set(False)
    try:
        yield
    finally:
        _SHARES.reset(token)
