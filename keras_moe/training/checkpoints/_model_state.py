"""The state of a model and its training, to the host and back."""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_moe.training._build_state import build_optimizer
from keras_moe.training._build_state import has_all_metrics
from keras_moe.training.checkpoints._replica_shares import assign_whole
from keras_moe.weights._layer_names import earlier_name
from keras_moe.weights._layer_names import named_layers
from keras_moe.weights._named_state import METRICS
from keras_moe.weights._named_state import MODEL
from keras_moe.weights._named_state import named_state
from keras_moe.weights._named_state import optimizer_of
from keras_moe.weights._transfer import transfer


def read_state(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer | None = None,
) -> dict[str, np.ndarray]:
    """Copies the values of `named_state` to the host.

    Each array is whole, wherever and in how many parts its variable lies.

    Args:
        model: built. The optimizer's variables are made if need be.
        optimizer: by default the one that the model was compiled with.

    Returns:
        Name to value, a copy.
    """
    build_optimizer(model)
    return {
        # Copy by a second call: variables do not take `np.array`'s argument
        # `copy`.
        name: np.array(np.asarray(variable))
        for name, variable in named_state(model, optimizer).items()
    }


def assign_state(
    model: keras.Model,
    state: Mapping[str, np.ndarray],
    weights_only: bool = False,
    metrics_complete: bool = True,
    optimizer: keras.optimizers.Optimizer | None = None,
) -> None:
    """Gives a model and its training the values that `read_state` returned.

    All is checked before anything is assigned.

    Args:
        model: built, on any devices. The optimizer's variables are made if
            need be.
        state: name to value.
        weights_only: leaves out the optimizer and metrics. So does a model
            that is not compiled.
        metrics_complete: `False` for a state from before the metrics were
            made: those that it does not hold are reset.
        optimizer: by default the one that the model was compiled with.

    Raises:
        ValueError: if names, shapes or types differ, naming all that do.
    """
    if weights_only or (optimizer or optimizer_of(model)) is None:
        expected = _weights(named_state(model))
        state = _weights(state)
    else:
        build_optimizer(model)
        expected = named_state(model, optimizer)

    def rule(name: str) -> str | None:
        if name not in state and earlier_name(name) in state:
            return earlier_name(name)
        made = metrics_complete or not name.startswith(METRICS)
        return name if made or name in state else None

    def assign(pairs: Iterable[tuple[keras.Variable, np.ndarray]]) -> None:
        if not metrics_complete and not weights_only:
            for metric in model.metrics:
                metric.reset_state()
        assign_whole(model, pairs)

    try:
        transfer(state, expected, rule, use_all=True, assign=assign)
    except ValueError as error:
        advice = ""
        if not has_all_metrics(model):
            advice = (
                " The metrics of `model` have no variables yet: `build_state` "
                "makes them."
            )
        raise ValueError(
            f"The state must be one of {model.name!r}. {error}{advice}"
        ) from error


def read_seeds(model: keras.Model) -> dict[str, int]:
    """Returns the seeds that are plain integers, drawn as layers are made.

    `RandomFeatures` draws its projections from one.

    Args:
        model: built.

    Returns:
        Name of the layer to its `seed`.
    """
    return {
        layer.name: int(seed)
        for layer in named_layers(model)
        if isinstance(seed := getattr(layer.layer, "seed", None), int)
    }


def assign_seeds(model: keras.Model, seeds: Mapping[str, int]) -> None:
    """Gives layers the seeds that `read_seeds` returned.

    Args:
        model: built.
        seeds: name of the layer to its `seed`; others keep theirs.
    """
    own = read_seeds(model)
    changed = {k: v for k, v in seeds.items() if own.get(k, v) != v}
    if not changed:
        return
    for layer, name, _ in named_layers(model):
        if name in changed:
            layer.seed = changed[name]
    # Compiled functions hold the old seeds: let Keras compile new ones.
    model.train_function = None
    model.test_function = None
    model.predict_function = None


def _weights(named: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in named.items() if k.startswith(MODEL)}
