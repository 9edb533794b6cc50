"""The contracts of models whose exits are trained."""

from collections.abc import Sequence
from typing import Any
from typing import Protocol
from typing import runtime_checkable

from keras_moe.generation.contracts._sequence_config import DecoderConfig
from keras_moe.generation.contracts._sequence_config import ExitConfig
from keras_moe.types import Tensor


@runtime_checkable
class Exiting(Protocol):
    """A `keras.Model` whose decoder is trained to stop after an early layer.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> isinstance(model, keras_moe.generation.Exiting)
    True
    """

    @property
    def config(self) -> DecoderConfig:
        """The sizes."""

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
    """A model with a learned confidence of its exits.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", exit_classifier=True
    ... )
    >>> isinstance(model, keras_moe.generation.ExitClassifying)
    True
    """

    trainable: bool

    @property
    def config(self) -> ExitConfig:
        """The ids and sizes."""

    @property
    def exit_classifier(self) -> Any:
        """The layer that is trained."""

    def exit_logits(self, hidden: Tensor) -> Tensor:
        """Returns the classifier's float32 logits, without the last axis."""
