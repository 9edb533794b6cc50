"""The contract of a model that decodes by itself."""

from typing import Protocol
from typing import runtime_checkable

from keras_moe.generation.contracts._sequence_config import SequenceConfig
from keras_moe.types import Tensor


@runtime_checkable
class Answering(Protocol):
    """A model that decides by itself how it decodes.

    `keras_moe.generation.decode` hands sources on to it, without a strategy or
    a policy. `keras_moe.models.Cascade` is one.

    Example:

    >>> class Silent:
    ...     config = keras_moe.models.SwitchTransformerConfig(10)
    ...
    ...     def answer(self, token_ids, max_length=64):
    ...         shape = (tf.shape(token_ids)[0], max_length)
    ...         return {"token_ids": tf.zeros(shape, tf.int32)}
    >>> keras_moe.generation.decode(Silent(), [[5, 6]], 3)["token_ids"].numpy()
    array([[0, 0, 0]], dtype=int32)
    """

    @property
    def config(self) -> SequenceConfig:
        """The ids."""

    def answer(
        self, token_ids: Tensor, max_length: int = 64
    ) -> dict[str, Tensor]:
        """Decodes sources, int32 `(batch, source_length)`.

        Returns:
            `token_ids`, int32 `(batch, max_length)`, ended by `end_id` and
            padded, and what else the model tells of each row.
        """
