"""A feed-forward network inside a dense model."""

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping

import keras

from keras_moe.layers import DecoderBlock
from keras_moe.layers import FeedForward


@dataclasses.dataclass(frozen=True)
class FeedForwardSite:
    """Where a model has a feed-forward network, and what it computes.

    Attributes:
        name: name of the layer, after those of the models it is nested in.
        layer: the layer whose place a sparse one takes: a
            `keras_moe.layers.FeedForward`, the second of two `Dense` layers,
            or a block that holds either.
        inner: the layer from `dim` to `hidden_dim`.
        outer: the layer back.
        gate: the layer that the activation is multiplied by, if any.
        activation: what comes between.
        dropout_rate: dropout of the inner layer's output.
        removed: layers that `layer` does the work of once it is sparse.
        parts: where the layers are attributes of a block of another library,
            their names, as `keras_moe.layers.SplicedBlock` has them.
        causal: whether a router there must not look at later tokens.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((6,)),
    ...     keras.layers.Dense(24, activation="gelu"),
    ...     keras.layers.Dense(6, name="ffn"),
    ... ])
    >>> (site,) = keras_moe.conversion.find_feed_forwards(model).sites
    >>> site.name, site.inner.units, site.activation.__name__
    ('ffn', 24, 'gelu')
    """

    name: str
    layer: keras.layers.Layer
    inner: keras.layers.Dense
    outer: keras.layers.Dense
    gate: keras.layers.Dense | None
    activation: Callable
    dropout_rate: float
    removed: tuple[keras.layers.Layer, ...] = ()
    parts: Mapping[str, str] | None = None
    causal: bool = False

    @property
    def replaced(self) -> keras.layers.Layer:
        """The layer that gives the sparse one its name and dtype."""
        if self.parts is not None:
            return self.outer
        inside = getattr(self.layer, "feed_forward", None)
        return self.layer if inside is None else inside

    @property
    def use_bias(self) -> bool:
        """Whether any of the linear layers has a bias."""
        return any(dense.use_bias for dense in self.linear_layers.values())

    @property
    def linear_layers(self) -> dict[str, keras.layers.Dense]:
        """The linear layers, by the names that `Experts` has for them."""
        found = {"inner": self.inner, "gate": self.gate, "outer": self.outer}
        return {name: dense for name, dense in found.items() if dense}

    @classmethod
    def of_feed_forward(
        cls, name: str, layer: keras.layers.Layer, network: FeedForward
    ) -> "FeedForwardSite":
        """Returns the site of `network`, which is `layer` or inside of it."""
        return cls(
            name=name,
            layer=layer,
            inner=network.inner,
            outer=network.outer,
            gate=network.gate if network.gated else None,
            activation=network.activation,
            dropout_rate=network.dropout_rate,
            causal=isinstance(layer, DecoderBlock),
        )
