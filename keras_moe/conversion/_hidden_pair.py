"""Two `Dense` layers inside a block of another library."""

from collections import Counter
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_moe.conversion import _dense_pair as dense_pair
from keras_moe.conversion._feed_forward_site import FeedForwardSite
from keras_moe.keras_internals import functional_nodes
from keras_moe.keras_internals import stored_kernel
from keras_moe.layers import SplicedBlock
from keras_moe.types import Tensor

# Attributes of blocks, by what they are: `TransformerEncoder` of KerasHub and
# its like (BERT, RoBERTa, DistilBERT, ...), and its `T5TransformerLayer`.
_KNOWN: tuple[Mapping[str, str], ...] = (
    {
        "inner": "_feedforward_intermediate_dense",
        "outer": "_feedforward_output_dense",
    },
    {
        "inner": "input_projector",
        "outer": "output_projector",
        "gate": "gate_projector",
        "dropout": "dropout_layer",
    },
)


class Call(NamedTuple):
    """What a layer is called with in a model's graph: symbolic tensors."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def call_of(model: keras.Model, layer: keras.layers.Layer) -> Call:
    """Returns the first call of a layer in a Functional or Sequential model."""
    if isinstance(model, keras.Sequential):
        return Call((layer.input,), {})
    for node in functional_nodes(model):
        if node.operation is layer:
            return Call(node.arguments.args, node.arguments.kwargs)
    raise ValueError(f"{layer.name} must be called in {model.name}.")


def hidden_pair(
    layer: keras.layers.Layer, call: Call, name: str
) -> FeedForwardSite | None:
    """Returns the feed-forward network in a block, if it has one.

    Attributes say which layers it may be. Whether the block applies them as
    such a network does is tried on a copy with random weights: with the layers
    taken out, and the network put in, the block must compute the same.

    Args:
        layer: the block, built.
        call: of the block.
        name: of the site.
    """
    for known in _KNOWN:
        parts = {
            part: attribute
            for part, attribute in known.items()
            if getattr(layer, attribute, None) is not None
        }
        if not {"inner", "outer"} <= set(parts):
            continue
        held = {part: getattr(layer, a) for part, a in parts.items()}
        if not _fits(held):
            continue
        tried = _try(layer, parts, call)
        if tried is None:
            continue
        dropout = held.get("dropout")
        site = FeedForwardSite(
            name=name,
            layer=layer,
            inner=held["inner"],
            outer=held["outer"],
            gate=held.get("gate"),
            activation=held["inner"].activation,
            dropout_rate=0.0 if dropout is None else dropout.rate,
            parts=parts,
            # The second layer of T5's decoder is given the causal mask as a
            # bias, which a trial with random values does not show.
            causal=tried.causal or bool(getattr(layer, "is_decoder", False)),
        )
        if dense_pair.problem(site, Counter()) is None:
            return site
    return None


def _fits(held: Mapping[str, keras.layers.Layer]) -> bool:
    linear = keras.activations.linear
    dense = [held[part] for part in ("inner", "outer", "gate") if part in held]
    if any(type(part) is not keras.layers.Dense for part in dense):
        return False
    if not all(part.built for part in dense):
        return False
    if any(part.activation is not linear for part in dense[1:]):
        return False
    if "dropout" in held and type(held["dropout"]) is not keras.layers.Dropout:
        return False
    return stored_kernel(held["inner"]).shape[0] == held["outer"].units


class _Tried(NamedTuple):
    """What a trial of a block showed."""

    causal: bool


class _Network(keras.layers.Layer):
    """The feed-forward network that the layers of a block would make."""

    def __init__(self, inner, outer, gate=None):
        super().__init__()
        self.inner, self.outer, self.gate = inner, outer, gate
        self.supports_masking = True

    def build(self, input_shape):
        pass  # its layers are

    def call(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden = self.inner(x)
        if self.gate is not None:
            hidden = hidden * self.gate(x)
        return self.outer(hidden)


def _try(
    layer: keras.layers.Layer, parts: Mapping[str, str], call: Call
) -> _Tried | None:
    """Returns `None` if the block is not what its attributes promise."""
    rng = np.random.default_rng(0)

    def sample(x: Any) -> Any:
        if not isinstance(x, keras.KerasTensor):
            return x
        shape = [
            size or (3 if axis else 2) for axis, size in enumerate(x.shape)
        ]
        if "float" in str(x.dtype):
            return ops.cast(rng.normal(size=shape), x.dtype)
        return ops.ones(shape, x.dtype)

    args, kwargs = tree.map_structure(sample, (tuple(call.args), call.kwargs))
    if not args or len(args[0].shape) != 3:
        return None

    def run(block: keras.layers.Layer, x: Tensor) -> np.ndarray:
        first = tree.flatten(block(x, *args[1:], **kwargs))[0]
        return np.asarray(ops.convert_to_numpy(ops.cast(first, "float32")))

    try:
        copy = type(layer).from_config(layer.get_config())
        if not hasattr(copy, parts["outer"]):
            copy.build((None, None, args[0].shape[-1]))
        run(copy, args[0])
        for weight in copy.trainable_weights:
            weight.assign(rng.normal(size=weight.shape))
        wanted = run(copy, args[0])
        first, rest = args[0][:, :1], args[0][:, 1:]
        before, last = args[0][:, :-1], args[0][:, -1:]
        looks_ahead = _differ(
            run(copy, ops.concatenate([before, -last], axis=1))[:, :-1],
            wanted[:, :-1],
        )
        looks_back = _differ(
            run(copy, ops.concatenate([-first, rest], axis=1))[:, 1:],
            wanted[:, 1:],
        )
        held = {part: getattr(copy, name) for part, name in parts.items()}
        held.pop("dropout", None)
        found = run(SplicedBlock(copy, _Network(**held), parts), args[0])
    except Exception:
        # Code of others may raise anything where it is called in another way
        # than it expects: it is not of a known kind then.
        return None
    if _differ(found, wanted):
        return None
    return _Tried(causal=looks_back and not looks_ahead)


def _differ(one: np.ndarray, two: np.ndarray) -> bool:
    return not np.allclose(one, two, rtol=1e-4, atol=1e-5)
