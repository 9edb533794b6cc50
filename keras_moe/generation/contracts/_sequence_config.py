"""The ids and sizes that decoding loops need to know."""

from typing import Protocol
from typing import runtime_checkable


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
