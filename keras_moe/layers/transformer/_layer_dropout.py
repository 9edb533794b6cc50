"""Dropout of whole blocks."""

import math

import keras
from keras import ops

from keras_moe.backend import refuse_recomputation
from keras_moe.ops._constrain import replicate
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_rate


@register
class LayerDropout(keras.layers.Layer):
    """Leaves a block out, row by row and at random, in training.

    The layers above then learn to do without the block, and early exits lose
    less. Nothing is scaled up: a residual block left out leaves its input as
    it is.

    Source: [LayerSkip, Elhoushi et al., 2024](https://arxiv.org/abs/2404.16710),
    section 4.1.

    Args:
        rate: how often the block is left out for a row, in [0, 1).
        seed: seed of the random choice.

    Call arguments:
        before: the block's input, `(batch, ...)`.
        after: its output, of the same shape.
        training: whether to train.

    Output shape:
        The shape of `after`.

    Raises:
        ValueError: if `rate` is out of its range.
        RuntimeError: in training within `keras.remat`.

    Example:

    >>> drop = keras_moe.layers.LayerDropout(0.5)
    >>> x = np.ones((2, 3))
    >>> np.array(drop(x, 2 * x))  # not in training
    array([[2., 2., 2.],
           [2., 2., 2.]], dtype=float32)
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        check_rate(rate=rate)
        self.rate = rate
        self.seed = seed
        # A generator is state that files hold: a layer with a rate of 0 has no
        # use for it, and must load from files without.
        self.seed_generator = (
            keras.random.SeedGenerator(seed) if rate > 0 else None
        )
        self.supports_masking = True

    def build(self, before_shape: Shape, after_shape: Shape) -> None:
        """Makes nothing; Keras needs the names to build from a file."""

    def call(
        self, before: Tensor, after: Tensor, training: bool | None = None
    ) -> Tensor:
        if not training or not self.rate:
            return after
        refuse_recomputation(self)
        ones = (1,) * (len(after.shape) - 1)
        drawn = keras.random.uniform(
            (ops.shape(after)[0], *ones), seed=self.seed_generator
        )
        # Without `replicate`, devices that share a batch would draw otherwise
        # than one device does.
        return ops.where(replicate(drawn) >= self.rate, after, before)

    def compute_output_shape(
        self, before_shape: Shape, after_shape: Shape
    ) -> Shape:
        return tuple(after_shape)

    def get_config(self) -> Config:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def layer_dropout_rates(rate: float, num_layers: int) -> list[float]:
    """Returns the rate of each block: 0 for the first, `rate` for the last.

    Between these the rate grows as `exp(l ln 2 / (num_layers - 1)) - 1` does
    (LayerSkip, arXiv:2404.16710, section 4.1).

    Args:
        rate: of the last block.
        num_layers: number of blocks.
    """
    if num_layers == 1:
        return [rate]
    step = math.log(2.0) / (num_layers - 1)
    return [rate * math.expm1(layer * step) for layer in range(num_layers)]
