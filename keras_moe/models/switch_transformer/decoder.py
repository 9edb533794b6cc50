"""The decoder stack."""

from typing import NamedTuple

from keras import ops

from keras_moe.layers import DecoderBlock
from keras_moe.layers import KeyValueCache
from keras_moe.models.switch_transformer.config import SwitchTransformerConfig
from keras_moe.models.switch_transformer.stack import Stack
from keras_moe.models.switch_transformer.stack import make_attention
from keras_moe.models.switch_transformer.stack import make_feed_forward
from keras_moe.types import Tensor


class DecoderState(NamedTuple):
    """What a decoding loop carries from step to step.

    Attributes:
        caches: keys and values of the positions so far, one a block.
        memories: projected keys and values of the encoder's output.
        memory_mask: bool `(batch, memory_length)`.
    """

    caches: tuple[KeyValueCache, ...]
    memories: tuple[KeyValueCache, ...]
    memory_mask: Tensor


class Decoder(Stack):
    """Causal blocks with cross-attention, all at once or step by step.

    Args:
        config: the sizes.

    Call arguments:
        inputs: embedded tokens, `(batch, length, model_dim)`.
        memory: the encoder's output.
        padding_mask: bool `(batch, length)`.
        memory_mask: bool `(batch, memory_length)`.
        training: whether to train.

    Output shape:
        `(batch, length, model_dim)`, normalised.
    """

    def __init__(self, config: SwitchTransformerConfig, dtype=None, **kwargs):
        blocks = [
            DecoderBlock(
                make_attention(config, "self_attention", dtype),
                make_attention(config, "cross_attention", dtype),
                make_feed_forward(config, block, dtype, causal=True),
                config.dropout_rate,
                dtype=dtype,
                name=f"block_{block}",
            )
            for block in range(config.num_decoder_layers)
        ]
        super().__init__(
            config, blocks, bidirectional=False, dtype=dtype, **kwargs
        )
        self.num_heads = config.num_heads
        self.head_dim = config.head_dim

    def call(
        self,
        inputs: Tensor,
        memory: Tensor,
        padding_mask: Tensor,
        memory_mask: Tensor,
        training: bool | None = None,
    ) -> Tensor:
        return self.run_blocks(
            inputs,
            memory,
            padding_mask=padding_mask,
            memory_mask=memory_mask,
            training=training,
        )

    def initial_state(
        self, memory: Tensor, memory_mask: Tensor, max_length: int
    ) -> DecoderState:
        """Allots the caches for `max_length` steps."""
        batch = ops.shape(memory)[0]
        shape = (batch, self.num_heads, max_length, self.head_dim)
        empty = ops.zeros(shape, dtype=self.compute_dtype)
        return DecoderState(
            caches=tuple(KeyValueCache(empty, empty) for _ in self.blocks),
            memories=tuple(b.memory_cache(memory) for b in self.blocks),
            memory_mask=memory_mask,
        )

    def step(
        self, inputs: Tensor, position: Tensor, state: DecoderState
    ) -> tuple[Tensor, DecoderState]:
        """Computes one position.

        Args:
            inputs: the embedded token, `(batch, 1, model_dim)`.
            position: int32 scalar.
            state: what the step before returned.

        Returns:
            The normalised output `(batch, 1, model_dim)` and the next state.
        """
        length = state.caches[0].keys.shape[2]
        bias = self.position_bias(
            ops.reshape(position, (1,)), ops.arange(length)
        )
        x = inputs
        caches = []
        for block, cache, memory in zip(
            self.blocks, state.caches, state.memories, strict=True
        ):
            x, cache = block.step(
                x, position, cache, memory, bias, state.memory_mask
            )
            caches.append(cache)
        return self.final_norm(x), state._replace(caches=tuple(caches))
