"""A model with sparse layers in the place of dense ones, weights to come."""

from collections.abc import Callable
from collections.abc import Iterable

import keras

from keras_moe.conversion._feed_forward_site import FeedForwardSite
from keras_moe.conversion._find_feed_forwards import is_graph
from keras_moe.keras_internals import flatten_layers
from keras_moe.keras_internals import sublayers
from keras_moe.layers import SparseMoE
from keras_moe.layers import SplicedBlock
from keras_moe.models import SwitchTransformer
from keras_moe.serialization import serialize_sublayer
from keras_moe.weights._layer_names import named_sublayers

# Placeholder for a dense layer that a `SparseMoE` replaces: the copied graph
# passes its input through.
_REMOVED = object()


class SparseCopy:
    """Copies layers and notes which came from which.

    Attributes:
        sparse: each feed-forward network that was replaced, with its
            replacement.
        plain: each layer that was copied as it is, with its copy.
    """

    def __init__(self) -> None:
        self.sparse: list[tuple[FeedForwardSite, SparseMoE]] = []
        self.plain: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []
        self._copies: dict[int, object] = {}

    def copy_transformer(
        self, dense: SwitchTransformer, **changes
    ) -> SwitchTransformer:
        """Returns a model of a changed config, its blocks paired in order."""
        config = {**dense.config.to_dict(), **changes}
        model = type(dense)(**config, dtype=dense.dtype_policy, name=dense.name)
        self._pair(dense, model, "")
        return _compile_like(dense, model)

    def copy_graph(
        self,
        dense: keras.Model,
        sites: Iterable[FeedForwardSite],
        make_sparse: Callable[[FeedForwardSite], SparseMoE],
    ) -> keras.Model:
        """Returns the copy of a Functional or Sequential model.

        Args:
            dense: the model.
            sites: the feed-forward networks to replace.
            make_sparse: makes the layer for a site.
        """
        of_layer = {}
        for site in sites:
            of_layer[id(site.layer)] = site
            for layer in site.removed:
                self._copies[id(layer)] = _REMOVED

        def copy(layer):
            if id(layer) not in self._copies:
                self._copies[id(layer)] = new_copy(layer)
            return self._copies[id(layer)]

        def new_copy(layer):
            if isinstance(layer, keras.Sequential):
                return copy_sequential(layer)
            if is_graph(layer):
                return keras.models.clone_model(
                    layer, clone_function=copy, call_function=_call
                )
            site = of_layer.get(id(layer))
            if site is None:
                made = type(layer).from_config(layer.get_config())
                if isinstance(layer, keras.layers.Layer):  # not a bare op
                    self.plain.append((layer, made))
                return made
            made = make_sparse(site)
            if site.parts is not None:
                return self._splice(layer, site, made)
            if layer is not site.replaced:  # but a block around it
                config = layer.get_config()
                config["feed_forward"] = serialize_sublayer(made)
                made = type(layer).from_config(config)
            self._pair(layer, made, site.name, site)
            return made

        def copy_sequential(model):
            (given,) = model.inputs
            first = keras.Input(
                batch_shape=given.shape, dtype=given.dtype, name=given.name
            )
            made = keras.Sequential(
                [first], name=model.name, trainable=model.trainable
            )
            for layer in model.layers:
                if copy(layer) is not _REMOVED:
                    made.add(copy(layer))
            return _compile_like(model, made)

        return copy(dense)

    def _splice(
        self, old: keras.layers.Layer, site: FeedForwardSite, sparse: SparseMoE
    ) -> SplicedBlock:
        """Returns a copy of another library's block with `sparse` in it."""
        new = SplicedBlock(
            type(old).from_config(old.get_config()),
            sparse,
            site.parts or {},
            trainable=old.trainable,
            dtype=old.dtype_policy,
            name=old.name,
        )
        new.build((None, None, site.outer.units))
        taken = {id(getattr(old, name)) for name in new.parts.values()}
        kept = [part for part in sublayers(old) if id(part) not in taken]
        self.plain += zip(kept, sublayers(new.block), strict=True)
        if new.dropout is not None:
            dropout = getattr(old, new.parts["dropout"])
            self.plain.append((dropout, new.dropout))
        self.sparse.append((site, sparse))
        return new

    def _pair(
        self,
        old: keras.layers.Layer,
        new: keras.layers.Layer,
        name: str,
        site: FeedForwardSite | None = None,
    ) -> None:
        """Notes which sublayer of `new` stands where one of `old` stood."""
        if isinstance(new, SparseMoE):
            site = site or FeedForwardSite.of_feed_forward(name, old, old)
            self.sparse.append((site, new))
            return
        parts = flatten_layers(new, include_self=False)
        if not any(isinstance(part, SparseMoE) for part in parts):
            self.plain.append((old, new))
            return
        left, right = named_sublayers(old), named_sublayers(new)
        # The sparse network of a `SwitchTransformer` has another name.
        renamed = [child for own, child in right.items() if own not in left]
        for own, part in left.items():
            other = right[own] if own in right else renamed.pop(0)
            below = f"{name}/{part.name}" if name else part.name
            self._pair(part, other, below, site)


def _call(layer, *args, **kwargs):
    if layer is _REMOVED:
        return args[0] if args else kwargs["inputs"]
    return layer(*args, **kwargs)


def _compile_like(model: keras.Model, copy: keras.Model) -> keras.Model:
    if model.compiled:
        copy.compile_from_config(model.get_compile_config())
    return copy
