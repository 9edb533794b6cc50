"""Decoding that drafts with lower layers and verifies with all."""

import dataclasses
from typing import Any
from typing import cast

from keras_moe.generation.contracts._decodable import Decodable
from keras_moe.generation.contracts._layerwise_decodable import (
    LayerwiseDecodable,
)
from keras_moe.types import Tensor
from keras_moe.validation import check_contract
from keras_moe.validation import check_size


@dataclasses.dataclass(frozen=True)
class SelfSpeculative:
    """Drafts with the lower layers, verifies with all: greedy, and lossless.

    The layers up to `draft_layer` say a few tokens in a row; the layers above
    then look at all of them at once, with one product of matrices where token
    by token they would need `draft_length`. Tokens that the upper layers would
    not have said are corrected. The answer is that of `Greedy`, except where
    two tokens are equally probable to the last bits of a float.

    Keys, values and states of the draft are those of the verification: nothing
    is computed twice. Rows of a batch go at the pace of the one whose draft
    was the worst.

    Source: [LayerSkip, Elhoushi et al.,
    2024](https://arxiv.org/abs/2404.16710), section 4.3.

    Attributes:
        draft_layer: the last of the layers that draft, counted from 1.
        draft_length: tokens drafted at a time.

    Raises:
        ValueError: if one is not a positive integer.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> ids = np.array([[5, 6, 7, 1]])
    >>> strategy = keras_moe.generation.SelfSpeculative(1, draft_length=3)
    >>> draft = model.generate(ids, max_length=6, strategy=strategy)
    >>> bool(np.all(draft["token_ids"] == model.generate(ids, 6)["token_ids"]))
    True
    """

    draft_layer: int
    draft_length: int = 4

    def __post_init__(self):
        check_size(draft_layer=self.draft_layer, draft_length=self.draft_length)

    def decode(
        self,
        model: Decodable,
        memory: Any,
        memory_mask: Tensor,
        max_length: int,
        static_shapes: bool = False,
    ) -> dict[str, Tensor]:
        """Decodes greedily from a memory.

        Args:
            model: a `keras_moe.generation.LayerwiseDecodable`.
            memory: what `model.encode` returned.
            memory_mask: its mask, bool `(batch, memory_length)`.
            max_length: greatest number of tokens to emit.
            static_shapes: whether shapes must not grow; where XLA compiles
                this, they do not in any case.

        Returns:
            `token_ids`, int32 `(batch, max_length)`; `log_probability`, float32
            `(batch,)`; and `num_verifications`, int32 `(batch,)`, how often all
            layers ran, the same for all rows.

        Raises:
            ValueError: if the model lacks a method or has too few layers, or
                its attention cannot take a draft back.
        """
        check_contract(LayerwiseDecodable, model=model)
        # Imported only where it is wanted, since it needs TensorFlow.
        from keras_moe.generation._self_speculative_decode import (
            self_speculative_decode,
        )

        return self_speculative_decode(
            cast(LayerwiseDecodable, model),
            memory,
            memory_mask,
            max_length,
            self.draft_layer,
            self.draft_length,
            static_shapes,
        )
