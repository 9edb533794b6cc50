"""The contracts of models that answer."""

from typing import Protocol
from typing import runtime_checkable

from keras_moe.generation._early_exit_policy import EarlyExitPolicy
from keras_moe.generation.contracts._sequence_config import ExitConfig
from keras_moe.generation.contracts._sequence_config import SequenceConfig
from keras_moe.generation.contracts._strategy import Strategy
from keras_moe.types import Tensor


@runtime_checkable
class Generative(Protocol):
    """A model that answers sources.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> isinstance(model, keras_moe.generation.Generative)
    True
    """

    @property
    def config(self) -> SequenceConfig:
        """The ids."""

    def generate(
        self,
        token_ids: Tensor,
        max_length: int = 64,
        early_exit: EarlyExitPolicy | None = None,
        strategy: Strategy | None = None,
    ) -> dict[str, Tensor]:
        """Decodes, as `keras_moe.generation.decode`."""


@runtime_checkable
class ExitingGenerative(Generative, Protocol):
    """A model that answers sources, and may stop at early layers meanwhile.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> isinstance(model, keras_moe.generation.ExitingGenerative)
    True
    """

    @property
    def config(self) -> ExitConfig:
        """The ids and sizes."""
