"""Losses that do not leak between replicas."""

import contextlib
import threading

import keras

from keras_moe.types import Tensor


class ReplicaLosses(keras.layers.Layer):
    """A layer whose losses stay with the replica that adds them.

    The replicas of `tf.distribute.MirroredStrategy` are threads that share
    the layer and its list of losses. They run one after another, but for an
    operation that all must reach, such as the mean over replicas of
    `losses.load_balancing_loss`: there they take turns in the middle of the
    forward pass, and Keras hands the losses of the first to the second as
    well. Gradients are right even so (no tape sees what another thread did),
    reported losses are too large. Here each loss remembers its thread.
    """

    def add_loss(self, loss: Tensor) -> None:
        """Adds a loss of this replica alone.

        Args:
            loss: a scalar, or scalars in any structure.
        """
        super().add_loss(loss)
        for value in keras.tree.flatten(loss):
            # The thread is noted on the tensor itself, since its `id` may be
            # used again. Where tensors take no attributes (JAX), replicas are
            # not threads either.
            with contextlib.suppress(AttributeError):
                value._keras_moe_thread = threading.get_ident()

    def _get_own_losses(self) -> list[Tensor]:
        here = threading.get_ident()
        return [
            loss
            for loss in super()._get_own_losses()
            if getattr(loss, "_keras_moe_thread", here) == here
        ]
