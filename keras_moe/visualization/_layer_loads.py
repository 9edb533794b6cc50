"""How the tokens of every layer spread over its experts."""

import dataclasses
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_moe.keras_internals import sublayers
from keras_moe.layers import Router

LOAD_KEY = "expert_load"
DROPPED_KEY = "fraction_tokens_left_behind"


@dataclasses.dataclass(frozen=True)
class LayerLoads:
    """The loads of all mixture-of-experts layers of a model.

    Attributes:
        names: names of the layers, as in the training logs.
        loads: for each layer a float array `[experts]`, each expert's share of
            the choices before any was dropped. Sums to 1, or to 0 where the
            layer saw no token.
        dropped: for each layer the share of tokens that no expert took.

    Raises:
        ValueError: if the three differ in length, or a layer has no experts.

    Example:

    >>> loads = keras_moe.visualization.LayerLoads(
    ...     names=("moe",), loads=(np.array([0.25, 0.75]),), dropped=(0.1,)
    ... )
    >>> loads.relative()
    (array([0.5, 1.5]),)
    """

    names: tuple[str, ...]
    loads: tuple[np.ndarray, ...]
    dropped: tuple[float, ...]

    def __post_init__(self):
        if not len(self.names) == len(self.loads) == len(self.dropped):
            raise ValueError(
                "`names`, `loads` and `dropped` must have one entry per layer "
                f"each. Received: {len(self.names)} names, {len(self.loads)} "
                f"loads and {len(self.dropped)} dropped shares."
            )
        for name, load in zip(self.names, self.loads, strict=True):
            if np.ndim(load) != 1 or not np.size(load):
                raise ValueError(
                    "`loads` must have a number for each expert of a layer. "
                    f"Received: shape={np.shape(load)} for {name!r}."
                )

    def relative(self) -> tuple[np.ndarray, ...]:
        """Returns the loads over that of an even layer: 1 is even."""
        return tuple(np.asarray(load) * len(load) for load in self.loads)

    @classmethod
    def from_metrics(cls, model: keras.Model) -> "LayerLoads":
        """Reads the model's metrics: what it saw since they were reset.

        Args:
            model: a built model with at least one `layers.Router`.

        Raises:
            ValueError: if it has none.
        """
        routers = routers_of(model)
        return cls(
            names=tuple(routers),
            loads=tuple(
                np.asarray(keras.ops.convert_to_numpy(r.expert_load.load()))
                for r in routers.values()
            ),
            dropped=tuple(
                float(r.trackers[DROPPED_KEY].result())
                for r in routers.values()
            ),
        )

    @classmethod
    def from_history(
        cls,
        history: keras.callbacks.History | Mapping[str, list[Any]],
        epoch: int = -1,
    ) -> "LayerLoads":
        """Reads what an `ExpertLoadCallback` recorded.

        Args:
            history: what `fit` returned, or its dictionary.
            epoch: which epoch, from 0; -1 is the last.

        Raises:
            ValueError: if the history has no loads, or not that epoch; or lacks
                what was dropped.
        """
        if isinstance(history, keras.callbacks.History):
            history = history.history
        ending = f"/{LOAD_KEY}"
        names = [k.removesuffix(ending) for k in history if k.endswith(ending)]
        if not names:
            raise ValueError(
                "`history` must hold expert loads: train with "
                "`callbacks=[keras_moe.visualization.ExpertLoadCallback()]`. "
                f"Received: history with the keys {sorted(history)}."
            )
        dropped = [f"{name}/{DROPPED_KEY}" for name in names]
        missing = sorted(set(dropped) - set(history))
        if missing:
            raise ValueError(
                "`history` must hold the share of tokens dropped beside each "
                f"load. Missing: {missing}."
            )
        recorded = [*dropped, *(name + ending for name in names)]
        epochs = min(len(history[key]) for key in recorded)
        if not -epochs <= epoch < epochs:
            raise ValueError(
                f"`epoch` must be one of the {epochs} that were recorded. "
                f"Received: epoch={epoch}."
            )
        return cls(
            names=tuple(names),
            loads=tuple(np.array(history[n + ending][epoch]) for n in names),
            dropped=tuple(float(history[key][epoch]) for key in dropped),
        )


def routers_of(model: keras.Model) -> dict[str, Router]:
    """Returns the built routers of a model by the names of their layers.

    Raises:
        ValueError: if there is none.
    """
    routers = built_routers(model)
    if not routers:
        raise ValueError(
            "`model` must be built and have a `keras_moe.layers.SparseMoE`. "
            f"Received: model {model.name!r}, built={model.built}, without "
            "a built router."
        )
    return routers


def built_routers(model: keras.Model) -> dict[str, Router]:
    """Returns what `routers_of` does, or an empty dictionary."""
    return {
        layer.path.rsplit("/", 1)[0]: layer
        for layer in _walk(model)
        if isinstance(layer, Router) and layer.built
    }


def _walk(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yields a layer and all below it, in the order they were made."""
    yield layer
    # `flatten_layers` would go through a list of blocks from the last to the
    # first.
    for sublayer in sublayers(layer):
        yield from _walk(sublayer)
