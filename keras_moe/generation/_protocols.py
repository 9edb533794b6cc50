"""The contracts between models and what decodes, trains or calibrates them."""

from collections.abc import Sequence
from typing import Any
from typing import Protocol
from typing import runtime_checkable

from keras_moe.generation._early_exit_policy import EarlyExitPolicy
from keras_moe.layers import AttentionCache
from keras_moe.layers import DecoderBlockState
from keras_moe.layers import KeyValueCache
from keras_moe.types import Tensor

# === Sizes and ids ===


@runtime_checkable
class SequenceConfig(Protocol):
    """The ids that frame a sequence."""

    @property
    def pad_id(self) -> int:
        """Id of padding, which is never emitted."""

    @property
    def end_id(self) -> int:
        """Id that ends an answer."""

    @property
    def start_id(self) -> int:
        """Id that the decoder starts from."""


@runtime_checkable
class ExitConfig(SequenceConfig, Protocol):
    """The sizes of a decoder that can be left after an early layer."""

    @property
    def num_decoder_layers(self) -> int:
        """Number of layers, each a possible exit."""

    @property
    def model_dim(self) -> int:
        """Size of the state that an exit hands to the head."""

    @property
    def output_size(self) -> int:
        """Number of ids that the head knows."""

    @property
    def exit_classifier(self) -> bool:
        """Whether the model has a learned confidence."""


# === Decoding ===


@runtime_checkable
class Decodable(Protocol):
    """A model that is decoded token by token, from a memory of its source.

    `encode` and `start_from` are two steps, so that one memory serves many
    decodings and many decoders. A memory is what the model makes of it: a
    tensor, or a nested structure of tensors, whose first axis is the batch.

    `keras_moe.generation.BeamSearch` also needs a state that is a named tuple
    with `blocks`, a tuple of `keras_moe.layers.DecoderBlockState`s (or of named
    tuples with those fields). In `blocks`, the first axis of every tensor is
    the batch; scalars belong to all rows. A block's `positions` go with the
    beams; its `memory` must stay the same from step to step, since it is
    repeated for each beam once, before the first. What else the state holds
    must belong to all rows.

    Example:

    >>> class Echo:
    ...     "Repeats its source."
    ...     config = keras_moe.models.SwitchTransformerConfig(10)
    ...
    ...     def encode(self, token_ids, training=None):
    ...         return token_ids, token_ids != self.config.pad_id
    ...
    ...     def start_from(self, memory, memory_mask, max_length, cache=None):
    ...         return memory
    ...
    ...     def step(self, token_ids, position, state):
    ...         return 9.0 * tf.one_hot(state[:, position], 10), state
    >>> isinstance(Echo(), keras_moe.generation.Decodable)
    True
    >>> keras_moe.generation.decode(Echo(), [[5, 6, 1]], 3)["token_ids"].numpy()
    array([[5, 6, 1]], dtype=int32)
    """

    @property
    def config(self) -> SequenceConfig:
        """The ids."""

    def encode(
        self, token_ids: Tensor, training: bool | None = None
    ) -> tuple[Any, Tensor]:
        """Encodes the source.

        Args:
            token_ids: int `(batch, source_length)`, padded.
            training: whether to train.

        Returns:
            The memory, and its mask, bool `(batch, memory_length)`, false for
            padding. A row without anything but padding has an empty answer.
        """

    def start_from(
        self,
        memory: Any,
        memory_mask: Tensor,
        max_length: int,
        cache: type[AttentionCache] = KeyValueCache,
    ) -> Any:
        """Returns the state before the first step.

        Args:
            memory: what `encode` returned, or a part or a concatenation of it.
            memory_mask: its mask.
            max_length: greatest number of steps.
            cache: how attention that keeps all positions keeps them.
        """

    def step(
        self, token_ids: Tensor, position: Tensor, state: Any
    ) -> tuple[Tensor, Any]:
        """Computes the logits that follow one more token.

        Args:
            token_ids: int `(batch,)`, the token at `position`.
            position: int32 scalar, from 0.
            state: what `start_from` or the step before returned.

        Returns:
            float32 logits `(batch, vocabulary)` and the next state.
        """


@runtime_checkable
class DecoderLayer(Protocol):
    """A layer of a decoder that decoding loops run by itself."""

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
    """A decoder whose layers can be run one by one."""

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
    """

    def head_kernel(self, size: int) -> Tensor:
        """Returns `(model_dim, size)`, the kernel of the first ids' logits."""

    def exit_confidence(self, hidden: Tensor) -> Tensor:
        """Returns the learned confidence in [0, 1] of `decoder.finish`'s output.

        Called only where `config.exit_classifier` is true.
        """


@runtime_checkable
class Generative(Protocol):
    """A model that answers sources."""

    @property
    def config(self) -> SequenceConfig:
        """The ids."""

    def generate(
        self,
        token_ids: Tensor,
        max_length: int = 64,
        early_exit: EarlyExitPolicy | None = None,
        strategy: "Strategy | None" = None,
    ) -> dict[str, Tensor]:
        """Decodes, as `keras_moe.generation.decode`."""


@runtime_checkable
class ExitingGenerative(Generative, Protocol):
    """A model that answers sources, and may stop at early layers meanwhile."""

    @property
    def config(self) -> ExitConfig:
        """The ids and sizes."""


# === Training ===


@runtime_checkable
class Exiting(Protocol):
    """A `keras.Model` whose decoder is trained to stop after an early layer."""

    @property
    def config(self) -> ExitConfig:
        """The ids and sizes."""

    @property
    def trainable_weights(self) -> list:
        """What training changes."""

    def exit_states(
        self,
        inputs: Any,
        layers: Sequence[int],
        training: bool | None = None,
    ) -> list[Tensor]:
        """Returns what the head would take if the decoder stopped early.

        Args:
            inputs: what the model is called with.
            layers: after which decoder layers, counted from 1.
            training: whether to train.

        Returns:
            For each a tensor `(batch, target_length, model_dim)`.
        """

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns float32 logits of an exit's state."""


@runtime_checkable
class ExitClassifying(Exiting, Protocol):
    """A model with a learned confidence of its exits."""

    trainable: bool

    @property
    def exit_classifier(self) -> Any:
        """The layer that is trained."""

    def exit_logits(self, hidden: Tensor) -> Tensor:
        """Returns the classifier's float32 logits, without the last axis."""


# === Strategies ===


@runtime_checkable
class Strategy(Protocol):
    """A way to decode.

    Must be hashable: `generate` keeps a compiled program for each strategy, and
    equal ones share it. A frozen dataclass of settings is.

    `keras_moe.generation.TokenByToken` is a base for strategies that choose one
    token after the other: only these can exit early.

    Example:

    >>> class Silent:
    ...     "Ends every answer at once."
    ...
    ...     def decode(
    ...         self, model, memory, memory_mask, max_length, static_shapes
    ...     ):
    ...         first = tf.range(max_length) == 0
    ...         shape = (tf.shape(memory_mask)[0], max_length)
    ...         ids = tf.where(first, model.config.end_id, model.config.pad_id)
    ...         return {"token_ids": tf.broadcast_to(ids, shape)}
    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> answer = model.generate([[5, 6]], max_length=4, strategy=Silent())
    >>> answer["token_ids"].numpy()
    array([[1, 0, 0, 0]], dtype=int32)
    """

    def decode(
        self,
        model: Decodable,
        memory: Any,
        memory_mask: Tensor,
        max_length: int,
        static_shapes: bool = False,
    ) -> dict[str, Tensor]:
        """Decodes from a memory.

        Args:
            model: the model. A strategy that needs more of it than `Decodable`
                asks for refuses a model without.
            memory: what `model.encode` returned.
            memory_mask: its mask, bool `(batch, memory_length)`.
            max_length: greatest number of tokens to emit.
            static_shapes: whether XLA will compile this.

        Returns:
            `token_ids`, int32 `(batch, max_length)`, ended by `end_id` and
            padded, and what else the strategy tells of each row.
        """
