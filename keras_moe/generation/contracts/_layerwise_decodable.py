"""The contracts of models whose decoder is run layer by layer."""

from collections.abc import Sequence
from typing import Protocol
from typing import runtime_checkable

from keras_moe.generation.contracts._decodable import Decodable
from keras_moe.generation.contracts._sequence_config import ExitConfig
from keras_moe.layers import DecoderBlockState
from keras_moe.types import Tensor


@runtime_checkable
class DecoderLayer(Protocol):
    """A layer of a decoder that decoding loops run by itself.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> isinstance(model.decoder.blocks[0], keras_moe.generation.DecoderLayer)
    True
    """

    def step(
        self,
        inputs: Tensor,
        state: DecoderBlockState,
        bias: Tensor | None = None,
        num_queries: int | None = None,
    ) -> tuple[Tensor, DecoderBlockState]:
        """Computes the next position, or the next few, as `DecoderBlock`."""

    def remember(
        self, inputs: Tensor, state: DecoderBlockState
    ) -> DecoderBlockState:
        """Returns the state after positions whose output nobody wants."""


@runtime_checkable
class DecoderStack(Protocol):
    """A decoder whose layers can be run one by one.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> isinstance(model.decoder, keras_moe.generation.DecoderStack)
    True
    """

    @property
    def blocks(self) -> Sequence[DecoderLayer]:
        """The layers, from the lowest."""

    @property
    def compute_dtype(self) -> str:
        """Dtype of what passes from layer to layer."""

    def bias(
        self, query_positions: Tensor, key_positions: Tensor
    ) -> Tensor | None:
        """Returns the biases of the attention scores, if there are any.

        Args:
            query_positions: int `(queries,)`.
            key_positions: int `(keys,)`.
        """

    def finish(self, x: Tensor, training: bool | None = None) -> Tensor:
        """Returns a layer's output as the head takes it.

        Args:
            x: `(batch, positions, model_dim)`.
            training: whether to train.
        """


@runtime_checkable
class LayerwiseDecodable(Decodable, Protocol):
    """A model whose decoder's layers a strategy may run one by one.

    `start_from` returns a named tuple with `blocks`, a tuple of
    `keras_moe.layers.DecoderBlockState`s, and `positions`, int32
    `(max_length,)`, all positions that there will be.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> isinstance(model, keras_moe.generation.LayerwiseDecodable)
    True
    """

    @property
    def config(self) -> ExitConfig:
        """The ids and sizes."""

    @property
    def decoder(self) -> DecoderStack:
        """The decoder."""

    def embed(self, token_ids: Tensor) -> Tensor:
        """Returns what the first layer takes of ids `(batch, length)`."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns float32 logits of what `decoder.finish` returned."""


@runtime_checkable
class ExitingDecodable(LayerwiseDecodable, Protocol):
    """A model that can tell how sure it is after each layer.

    For `keras_moe.generation.EarlyExitPolicy`.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> isinstance(model, keras_moe.generation.ExitingDecodable)
    True
    """

    def head_kernel(self, size: int) -> Tensor:
        """Returns `(model_dim, size)`, the kernel of the first ids' logits."""

    def exit_confidence(self, hidden: Tensor) -> Tensor:
        """Returns the learned confidence in [0, 1] of finished states.

        Called only where `config.exit_classifier` is true.

        Args:
            hidden: what `decoder.finish` returned.
        """
