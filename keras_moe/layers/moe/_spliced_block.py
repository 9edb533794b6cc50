"""A block of another library with a feed-forward network of ours in it."""

import contextvars
import inspect
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_moe.keras_internals import get_mask
from keras_moe.keras_internals import replace_sublayer
from keras_moe.keras_internals import take_call_signature
from keras_moe.serialization import deserialize_sublayers
from keras_moe.serialization import register
from keras_moe.serialization import serialize_sublayer
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor

_PARTS = ("inner", "outer", "gate", "dropout")
# The mask of the call that runs: the block in between does not hand it on.
_MASK: contextvars.ContextVar[Tensor | None] = contextvars.ContextVar(
    "mask", default=None
)


@register
class SplicedBlock(keras.layers.Layer):
    """A block whose dense feed-forward network another layer stands in for.

    Blocks of KerasHub and of others hold a feed-forward network as two `Dense`
    layers that their `call` applies. This layer has such a block, calls it as
    it would be called itself, and puts `feed_forward` where the two were:
    `keras_moe.conversion.upcycle` makes models of such blocks sparse with it.

    The block must apply `inner`, then `outer`, multiply what `inner` gives by
    what `gate` gives (if there is one), and apply `dropout` (if there is one)
    both between and after the two. Dropout in between is then left to
    `feed_forward`.

    Args:
        block: the block, of which the layers below are attributes, when it is
            made or when it is built.
        feed_forward: `keras_moe.layers.SparseMoE`, or a layer called like it.
        parts: the names of the attributes by what they are, `"inner"` and
            `"outer"`, and possibly `"gate"` and `"dropout"`.

    Call arguments:
        Those of `block`. Padding is known from `padding_mask`, `(batch,
        length)`, from an `attention_mask` that is the same for all queries,
        `(batch, 1, length)`, or from the mask of the first argument.

    Output shape:
        That of `block`.

    Raises:
        ValueError: if `parts` has another name, or lacks one.

    Example:

    >>> @keras.saving.register_keras_serializable("example")
    ... class Block(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.up = keras.layers.Dense(32, activation="relu")
    ...         self.down = keras.layers.Dense(input_shape[-1])
    ...     def call(self, inputs, padding_mask=None):
    ...         return inputs + self.down(self.up(inputs))
    >>> block = keras_moe.layers.SplicedBlock(
    ...     Block(),
    ...     keras_moe.layers.SparseMoE(num_experts=4, hidden_dim=32),
    ...     {"inner": "up", "outer": "down"},
    ... )
    >>> block(np.ones((1, 5, 8), "float32")).shape
    TensorShape([1, 5, 8])
    """

    def __init__(
        self,
        block: keras.layers.Layer,
        feed_forward: keras.layers.Layer,
        parts: Mapping[str, str],
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not {"inner", "outer"} <= set(parts) <= set(_PARTS):
            raise ValueError(
                "`parts` must name 'inner' and 'outer', and may name 'gate' "
                f"and 'dropout'. Received: parts={dict(parts)}."
            )
        self.block = block
        self.feed_forward = feed_forward
        self.parts = dict(parts)
        self.dropout: keras.layers.Layer | None = None
        self.supports_masking = block.supports_masking
        take_call_signature(self, block)

    def build(self, inputs_shape: Shape) -> None:
        outer = self.parts["outer"]
        if not hasattr(self.block, outer):
            self.block.build(inputs_shape)
        if "dropout" in self.parts:
            self.dropout = getattr(self.block, self.parts["dropout"])
        stand_ins = {
            "inner": _same,
            "gate": _ones,
            "dropout": _same,
            "outer": self._apply,
        }
        for part, name in self.parts.items():
            replace_sublayer(self.block, name, stand_ins[part])
        if not self.feed_forward.built:
            self.feed_forward.build(inputs_shape)

    def call(self, *args, **kwargs) -> Any:
        call = inspect.signature(self.block.call)
        given = call.bind_partial(*args, **kwargs).arguments
        token = _MASK.set(_token_mask(given))
        try:
            return self.block(*args, **kwargs)
        finally:
            _MASK.reset(token)

    def _apply(self, x: Tensor) -> Tensor:
        mask = _MASK.get()
        if mask is not None and mask.shape[1] not in (None, x.shape[1]):
            mask = None  # a cache's: of more tokens than this call has
        x = self.feed_forward(x, mask=mask)
        return x if self.dropout is None else self.dropout(x)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "block": serialize_sublayer(self.block),
            "feed_forward": serialize_sublayer(self.feed_forward),
            "parts": self.parts,
        }

    @classmethod
    def from_config(cls, config: Config) -> "SplicedBlock":
        """Rebuilds the layer, block and feed-forward network included."""
        return cls(**deserialize_sublayers(config, "block", "feed_forward"))


def _same(x: Tensor, **_) -> Tensor:
    return x


def _ones(x: Tensor, **_) -> Tensor:
    return ops.ones_like(x)


def _token_mask(given: Mapping[str, Any]) -> Tensor | None:
    """Returns which tokens are real, as far as a call says."""
    mask = given.get("padding_mask")
    if mask is None:
        mask = given.get("attention_mask")
        if mask is not None:
            for_all = len(mask.shape) == 3 and mask.shape[1] == 1
            mask = ops.squeeze(mask, 1) if for_all else None
    if mask is None:
        mask = get_mask(next(iter(given.values())))
    return None if mask is None else ops.cast(mask, "bool")
