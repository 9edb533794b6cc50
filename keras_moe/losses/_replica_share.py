"""The share of a replica in a loss, under `tf.distribute`."""

import contextlib
import contextvars
from collections.abc import Iterator

from keras_moe.backend import num_replicas
from keras_moe.types import Tensor

# Each thread, and so each replica, has its own value.
_SHARES = contextvars.ContextVar("shares", default=True)


def replica_share() -> float:
    """Returns 1 over the number of replicas that train in step.

    Gradients are summed over replicas: a `compute_loss` must multiply the mean
    over its replica's examples by this share, or the gradient is as many times
    too large as there are replicas. Keras's own losses do so by themselves, but
    not a function that returns a scalar.
    """
    return 1.0 / num_replicas()


def shared_by_replicas(loss: Tensor) -> Tensor:
    """Returns a scalar loss times `replica_share`.

    Where there is one replica, the given tensor itself is returned.
    """
    share = replica_share()
    if share == 1.0 or not _SHARES.get():
        return loss
    return loss * share


@contextlib.contextmanager
def without_replica_share() -> Iterator[None]:
    """Lets `shared_by_replicas` return losses unscaled: the caller scales."""
    token = _SHARES.set(False)
    try:
        yield
    finally:
        _SHARES.reset(token)
