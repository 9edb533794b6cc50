"""The GELU of T5 1.1 and GPT-2."""

import keras
from keras import ops

from keras_moe.types import Tensor


@keras.saving.register_keras_serializable(package="keras_moe")
def gelu_tanh(x: Tensor) -> Tensor:
    """Returns the Gaussian error linear unit by its approximation with tanh.

    Models that were trained with it need it: it differs from
    `keras.activations.gelu` by up to 5e-4. Hugging Face calls it `gelu_new`.

    Source: [Hendrycks & Gimpel, 2016](https://arxiv.org/abs/1606.08415),
    section 2.

    Args:
        x: a float tensor.

    Example:

    >>> layer = keras_moe.layers.FeedForward(
    ...     hidden_dim=8, activation=keras_moe.ops.gelu_tanh
    ... )
    >>> layer(np.zeros([1, 4])).shape
    TensorShape([1, 4])
    """
    return ops.gelu(x, approximate=True)
