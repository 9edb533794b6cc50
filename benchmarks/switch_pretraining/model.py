"""The model: public layers of the library, put together to fill in spans."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_moe import layers


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What all variants have in common.

    Attributes:
        model_dim: size of the residual stream.
        hidden_dim: inner size of the dense network, and of each expert.
        blocks: number of blocks.
        num_heads: attention heads.
        near_bias: what the heads' biases of near positions start from.
        first_sparse: the first block that may hold experts, from 0.
        capacity_factor: slots of the experts in training over an even load.
        expert_scale: variance scale of the experts' kernels.
        router_stddev: spread of the router's kernel.
        jitter_noise: noise of the router's input in training.
        balance_weight: factor of the load-balancing loss.
    """

    model_dim: int = 64
    hidden_dim: int = 16
    blocks: int = 1
    num_heads: int = 8
    near_bias: float = 6.0
    first_sparse: int = 0
    capacity_factor: float = 1.25
    expert_scale: float = 1.0
    router_stddev: float = 0.3
    jitter_noise: float = 0.01
    balance_weight: float = 0.01


@dataclasses.dataclass(frozen=True)
class Variant:
    """The settings in which the compared models differ.

    Attributes:
        name: of the variant.
        num_experts: experts in the place of a feed-forward network; 0 for the
            dense model.
        router: `"switch"` or `"expert_choice"`.
    """

    name: str
    num_experts: int = 0
    router: str = "switch"


class Pretrained(keras.Model):
    """A T5-style encoder that computes the corrupted positions alone.

    Relative positions, RMS norm first, no biases but the head's. In each
    block the corrupted positions attend to the embedded text and pass a
    feed-forward network: six in seven positions have no label, and their
    networks would be most of the cost. Nothing is causal.

    The head starts from the frequencies of the ids. Otherwise the first hundred
    updates go into these alone, and Adam, which makes noise as large as signal,
    meanwhile wrecks the attention for a long time to come.

    Args:
        sizes: what all variants have in common.
        variant: in what they differ.
        counts: int `(vocabulary_size,)`, how often each id is in the text.

    Call arguments:
        inputs: `(token_ids, positions)`: int `(batch, length)` without
            padding, and int `(batch, n)`, the corrupted positions of each row.
        training: whether to train.

    Output shape:
        float32 logits `(batch, n, vocabulary_size)`.
    """

    def __init__(self, sizes: Sizes, variant: Variant, counts: np.ndarray):
        super().__init__(name=variant.name)
        self.sizes = sizes
        self.counts = counts
        self.embedding = keras.layers.Embedding(
            len(counts),
            sizes.model_dim,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0),
            name="embedding",
        )
        self.context_norm = _norm("context_norm")
        self.blocks = [
            Block(sizes, variant, is_sparse=block >= sizes.first_sparse)
            for block in range(sizes.blocks)
        ]
        self.final_norm = _norm("final_norm")
        self.head = keras.layers.Dense(
            len(counts), kernel_initializer="zeros", name="head"
        )

    def build(self, input_shape: Any = None) -> None:
        """Makes all weights; their shapes do not depend on the input."""
        hidden = (None, None, self.sizes.model_dim)
        self.embedding.build((None, None))
        for layer in (
            self.context_norm,
            *self.blocks,
            self.final_norm,
            self.head,
        ):
            layer.build(hidden)
        seen = self.counts + 1
        self.head.bias.assign(np.log(seen / seen.sum()))

    def call(self, inputs, training: bool | None = None):
        token_ids, positions = inputs
        text = self.embedding(token_ids)
        x = ops.take_along_axis(text, positions[:, :, None], axis=1)
        context = self.context_norm(text)
        for block in self.blocks:
            x = block(x, context, positions, training=training)
        return self.head(self.final_norm(x))


class Block(keras.layers.Layer):
    """Attention of some positions to all, then a feed-forward network.

    Args:
        sizes: what all variants have in common.
        variant: in what they differ.
        is_sparse: whether the network may be one of experts.
    """

    def __init__(self, sizes: Sizes, variant: Variant, is_sparse: bool):
        super().__init__()
        self.sizes = sizes
        self.position_bias = layers.RelativePositionBias(sizes.num_heads)
        self.attention_norm = _norm("attention_norm")
        self.attention = layers.T5Attention(
            sizes.num_heads, sizes.model_dim // sizes.num_heads
        )
        self.feed_forward_norm = _norm("feed_forward_norm")
        self.feed_forward = _feed_forward(sizes, variant, is_sparse)

    def build(self, input_shape: Any) -> None:
        self.position_bias.build()
        self.position_bias.table.assign(_near_positions(self.sizes))
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape, input_shape)
        self.feed_forward_norm.build(input_shape)
        self.feed_forward.build(input_shape)

    def call(self, x, context, positions, training: bool | None = None):
        every = ops.arange(ops.shape(context)[1])
        bias = self.position_bias(every, every)
        # h = head, q = query, k = key, b = batch: [h, q, k] to [b, h, q, k]
        bias = ops.transpose(ops.take(bias, positions, axis=1), (1, 0, 2, 3))
        attended = self.attention(
            self.attention_norm(x), context, bias=bias, training=training
        )
        x = x + attended
        fed = self.feed_forward(self.feed_forward_norm(x), training=training)
        return x + fed


def _near_positions(sizes: Sizes) -> np.ndarray:
    """Returns position biases by which each head looks at one near position.

    Left to itself, attention takes the first minutes to find the neighbours.
    """
    buckets = 32
    table = np.zeros((buckets, sizes.num_heads), "float32")
    for head in range(sizes.num_heads):
        distance, is_after = head // 2 + 1, head % 2
        table[distance + is_after * buckets // 2, head] = sizes.near_bias
    return table


def _norm(name: str) -> keras.layers.Layer:
    return keras.layers.RMSNormalization(epsilon=1e-6, name=name)


def _feed_forward(
    sizes: Sizes, variant: Variant, is_sparse: bool
) -> keras.layers.Layer:
    if not (variant.num_experts and is_sparse):
        return layers.FeedForward(sizes.hidden_dim, name="feed_forward")
    return layers.SparseMoE(
        variant.num_experts,
        sizes.hidden_dim,
        router=_router(sizes, variant.router),
        dispatch="gather",
        kernel_initializer=keras.initializers.VarianceScaling(
            sizes.expert_scale, mode="fan_in", distribution="truncated_normal"
        ),
        name="sparse_moe",
    )


def _router(sizes: Sizes, router: str) -> layers.Router:
    initializer = keras.initializers.TruncatedNormal(stddev=sizes.router_stddev)
    if router == "switch":
        return layers.SwitchRouter(
            capacity_factor=sizes.capacity_factor,
            jitter_noise=sizes.jitter_noise,
            load_balancing_loss_weight=sizes.balance_weight,
            kernel_initializer=initializer,
            name="router",
        )
    # Expert choice gets as many slots as Switch has, so that both cost the
    # same.
    return layers.ExpertChoiceRouter(
        capacity_factor=sizes.capacity_factor,
        jitter_noise=sizes.jitter_noise,
        kernel_initializer=initializer,
        name="router",
    )
