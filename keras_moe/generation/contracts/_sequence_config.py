"""The ids and sizes that decoding and training of exits must know."""

from typing import Protocol
from typing import runtime_checkable


@runtime_checkable
class SequenceConfig(Protocol):
    """The ids that frame a sequence.

    Example:

    >>> config = keras_moe.models.SwitchTransformerConfig(10)
    >>> isinstance(config, keras_moe.generation.SequenceConfig)
    True
    >>> config.pad_id, config.end_id, config.start_id
    (0, 1, 0)
    """

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
class DecoderConfig(Protocol):
    """The sizes of a decoder whose layers are possible exits.

    Example:

    >>> config = keras_moe.models.SwitchTransformerConfig(10)
    >>> isinstance(config, keras_moe.generation.DecoderConfig)
    True
    """

    @property
    def num_decoder_layers(self) -> int:
        """Number of layers."""

    @property
    def model_dim(self) -> int:
        """Size of the state that a layer hands to the next, or to the head."""


@runtime_checkable
class ExitConfig(SequenceConfig, DecoderConfig, Protocol):
    """The ids and sizes of a model that is decoded with early exits.

    Example:

    >>> config = keras_moe.models.SwitchTransformerConfig(10)
    >>> isinstance(config, keras_moe.generation.ExitConfig)
    True
    """

    @property
    def output_size(self) -> int:
        """Number of ids that the head knows."""

    @property
    def exit_classifier(self) -> bool:
        """Whether the model has a learned confidence."""
