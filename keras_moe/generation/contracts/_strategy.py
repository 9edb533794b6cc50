"""The contract of a way to decode."""

from typing import Any
from typing import Protocol
from typing import runtime_checkable

from keras_moe.generation.contracts._decodable import Decodable
from keras_moe.types import Tensor


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
    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
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
            static_shapes: whether shapes must not grow; where XLA compiles
                this, they do not in any case.

        Returns:
            `token_ids`, int32 `(batch, max_length)`, ended by `end_id` and
            padded, and what else the strategy tells of each row.
        """
