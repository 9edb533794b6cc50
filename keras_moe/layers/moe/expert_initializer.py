"""Initialisers for kernels that are stacked over experts."""

import keras

from keras_moe.types import InitializerLike


def per_expert(
    initializer: InitializerLike, num_experts: int
) -> keras.initializers.Initializer:
    """Corrects an initialiser for a kernel `(num_experts, in, out)`.

    Keras takes the leading axis for a receptive field, so a variance-scaling
    initialiser would draw from a distribution too narrow by
    `sqrt(num_experts)`. Scaling the variance by `num_experts` restores each
    expert's own fan exactly, whatever the mode. Others are returned as
    they are.

    Args:
        initializer: anything that `keras.initializers.get` takes.
        num_experts: size of the leading axis.
    """
    initializer = keras.initializers.get(initializer)
    if not isinstance(initializer, keras.initializers.VarianceScaling):
        return initializer
    return keras.initializers.VarianceScaling(
        scale=initializer.scale * num_experts,
        mode=initializer.mode,
        distribution=initializer.distribution,
        seed=initializer.seed,
    )
