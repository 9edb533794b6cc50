"""The decoder stack."""

from collections.abc import Sequence
from typing import NamedTuple

from keras import ops

from keras_moe.layers import AttentionCache
from keras_moe.layers import DecoderBlock
from keras_moe.layers import DecoderBlockState
from keras_moe.layers import KeyValueCache
from keras_moe.models.switch_transformer._config import SwitchTransformerConfig
from keras_moe.models.switch_transformer._stack import Stack
from keras_moe.models.switch_transformer._stack import make_attention
from keras_moe.models.switch_transformer._stack import make_feed_forward
from keras_moe.types import Tensor


class DecoderState(NamedTuple):
    """The decoder's state between steps.

    Attributes:
        blocks: the state of each block.
        positions: int32 `(max_length,)`, all positions that there will be.
        head_kernels: `(model_dim, words)` each, of a tied head, if it was
            turned for the steps.
    """

    blocks: tuple[DecoderBlockState, ...]
    positions: Tensor
    head_kernels: tuple[Tensor, ...] = ()


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
                make_attention(config, "self_attention", dtype, causal=True),
                make_attention(config, "cross_attention", dtype, across=True),
                make_feed_forward(config, block, dtype, causal=True),
                config.dropout_rate,
                dtype=dtype,
                name=f"block_{block}",
            )
            for block in range(config.num_decoder_layers)
        ]
        super().__init__(
            config,
            blocks,
            bidirectional=False,
            layer_dropout_rate=config.layer_dropout_rate,
            dtype=dtype,
            **kwargs,
        )

    def call(
        self,
        inputs: Tensor,
        memory: Tensor,
        padding_mask: Tensor,
        memory_mask: Tensor,
        training: bool | None = None,
    ) -> Tensor:
        last = len(self.blocks)
        return self.exit_states(
            (last,), inputs, memory, padding_mask, memory_mask, training
        )[0]

    def exit_states(
        self,
        layers: Sequence[int],
        inputs: Tensor,
        memory: Tensor,
        padding_mask: Tensor,
        memory_mask: Tensor,
        training: bool | None = None,
    ) -> list[Tensor]:
        """Returns what `call` would give if it stopped after each layer.

        Args:
            layers: the layers, counted from 1.
            inputs: as for `call`.
            memory: as for `call`.
            padding_mask: as for `call`.
            memory_mask: as for `call`.
            training: as for `call`.
        """
        outputs = self.run_blocks(
            inputs,
            memory,
            padding_mask=padding_mask,
            memory_mask=memory_mask,
            training=training,
        )
        return [
            self.finish(outputs[layer - 1], training=training)
            for layer in layers
        ]

    def init_state(
        self,
        memory: Tensor,
        memory_mask: Tensor,
        max_length: int,
        cache: type[AttentionCache] = KeyValueCache,
    ) -> DecoderState:
        """Returns the state before the first of `max_length` steps.

        Args:
            memory: the encoder's output, `(batch, memory_length, model_dim)`.
            memory_mask: bool `(batch, memory_length)`, false for padding.
            max_length: greatest number of steps.
            cache: how attention that keeps all positions keeps them.
        """
        return DecoderState(
            tuple(
                block.init_state(memory, memory_mask, max_length, cache)
                for block in self.blocks
            ),
            ops.arange(max_length, dtype="int32"),
        )

    def step(
        self, inputs: Tensor, position: Tensor, state: DecoderState
    ) -> tuple[Tensor, DecoderState]:
        """Computes one position.

        Args:
            inputs: the embedded token, `(batch, 1, model_dim)`.
            position: int32 scalar.
            state: what `init_state` or the step before returned.

        Returns:
            The normalised output `(batch, 1, model_dim)` and the next state.
        """
        bias = self.bias(ops.reshape(position, (1,)), state.positions)
        x = inputs
        states = []
        for block, before in zip(self.blocks, state.blocks, strict=True):
            x, after = block.step(x, before, bias)
            states.append(after)
        return self.final_norm(x), state._replace(blocks=tuple(states))
