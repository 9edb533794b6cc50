"""Initialisers for kernels that are stacked over experts."""

import keras

from keras_moe.types import InitializerLike


def per_expert(
    initializer: InitializerLike,
) -> keras.initializers.Initializer:
    """Corrects an initialiser for a kernel `(num_experts, in, out)`.

    Keras takes the leading axis of a bare kernel for a receptive field, so a
    variance-scaling initialiser would draw from a distribution too narrow by
    `sqrt(num_experts)`. Naming the axes gives each expert its own fans,
    whatever layer holds the kernel. Other initialisers are returned as they
    are.

    Args:
        initializer: anything that `keras.initializers.get` takes.
    """
    initializer = keras.initializers.get(initializer)
    if not isinstance(initializer, keras.initializers.VarianceScaling):
        return initializer
    return keras.initializers.VarianceScaling(
        scale=initializer.scale,
        mode=initializer.mode,
        distribution=initializer.distribution,
        seed=initializer.seed,
        input_axes=[1],
        output_axes=[2],
    )
