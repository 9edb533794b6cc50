"""A block of the encoder that is of degree 2 in its weights."""

import keras

from keras_moe.layers.scale_invariant._scale_invariant_attention import (
    ScaleInvariantAttention,
)
from keras_moe.layers.transformer._encoder_block import EncoderBlock
from keras_moe.layers.transformer._feed_forward import FeedForward
from keras_moe.layers.transformer._residual import Residual
from keras_moe.serialization import quantized_dtype
from keras_moe.serialization import register
from keras_moe.types import Config

# Small beside any variance: an epsilon is what a scale would be measured by.
_EPSILON = 1e-20


@register
class ScaleInvariantBlock(EncoderBlock):
    """Self-attention and a feed-forward layer, for weights of any scale.

    Multiplying all weights by c multiplies what each sublayer adds by `c^2`:
    it reads a normalised stream, and has two products and no bias. Give the
    first block a stream that does the same, and normalise after the last; then
    the whole does not depend on c, as the example shows and
    `keras_moe.optimizers.assert_scale_invariant` checks.

    When, and when not: for encoders to be trained by
    `keras_moe.optimizers.RelativeClipSGD`, without an optimizer's memory. Where
    Adam's memory is no matter, `keras_moe.layers.EncoderBlock` learned faster
    in our trials. Experimental.

    Source: [Li et al., 2022](https://arxiv.org/abs/2202.00980), section 4. The
    degrees of its table are kept, and scores are centered, which the paper's
    are not; its pre-training is not repeated here.

    Args:
        num_heads: heads of the attention.
        key_dim: size of each head.
        hidden_dim: inner size of the feed-forward layer.
        dropout_rate: dropout of each sublayer's output.
        center_scores: see `keras_moe.layers.ScaleInvariantAttention`.

    Call arguments:
        inputs: `(batch, length, dim)`, of degree 2 in the weights.
        padding_mask: bool `(batch, length)`, false for padding; taken from the
            inputs where Keras propagates one.
        training: whether to train.

    Output shape:
        `(batch, length, dim)`.

    Example:

    >>> ids = keras.Input((None,), dtype="int32")
    >>> x = keras.layers.Embedding(10, 8)(ids)
    >>> x = keras.layers.LayerNormalization(epsilon=1e-20)(x)  # of degree 1
    >>> x = keras.layers.Dense(8, use_bias=False)(x)  # of degree 2
    >>> for _ in range(2):
    ...     x = keras_moe.layers.ScaleInvariantBlock(2, 4, 16)(x)
    >>> x = keras.layers.LayerNormalization(
    ...     center=False, scale=False, epsilon=1e-20
    ... )(x)
    >>> encoder = keras.Model(ids, x)
    >>> error = keras_moe.optimizers.assert_scale_invariant(
    ...     encoder, np.array([[1, 2, 3]])
    ... )
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        hidden_dim: int,
        dropout_rate: float = 0.0,
        center_scores: bool = True,
        dtype=None,
        **kwargs,
    ):
        policy = keras.dtype_policies.get(dtype)
        super().__init__(
            ScaleInvariantAttention(
                num_heads,
                key_dim,
                center_scores,
                dtype=policy,
                name="attention",
            ),
            FeedForward(hidden_dim, dtype=policy, name="feed_forward"),
            dropout_rate,
            dtype=policy,
            **kwargs,
        )

    def make_residual(self, name: str) -> Residual:
        """Returns what is around a sublayer: a norm without weights."""
        norm = keras.layers.LayerNormalization(
            center=False,
            scale=False,
            epsilon=_EPSILON,
            dtype=self.dtype_policy,
            name="norm",
        )
        return Residual(
            self.dropout_rate, norm, dtype=self.dtype_policy, name=name
        )

    def get_config(self) -> Config:
        config = super().get_config()
        del config["attention"], config["feed_forward"]
        return {
            **config,
            **quantized_dtype(self),
            "num_heads": self.attention.num_heads,
            "key_dim": self.attention.key_dim,
            "hidden_dim": self.feed_forward.hidden_dim,
            "center_scores": self.attention.center_scores,
        }

    @classmethod
    def from_config(cls, config: Config) -> "ScaleInvariantBlock":
        """Rebuilds the block."""
        return cls(**config)
