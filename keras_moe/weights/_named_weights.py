"""All that a training changes, under names that every process agrees on."""

from collections.abc import Iterator
from typing import Any

import keras

from keras_moe.keras_internals import sublayers
from keras_moe.weights._layer_names import make_unique
from keras_moe.weights._layer_names import named_layers
from keras_moe.weights._layer_names import stable_name

MODEL = "model/"
OPTIMIZER = "optimizer/"
METRICS = "metrics/"


def named_variables(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer | None = None,
) -> dict[str, keras.Variable]:
    """Names all variables of a model and of its training.

    A name says where a variable lies: `"model/block/dense/kernel"` for
    weights and states of random seeds, `"optimizer/model/block/dense/kernel/
    momentum"`, `"metrics/loss/total"`. It contains none of the numbers that
    Keras appends to the names of what was made before in the same process.
    Among siblings of one name, the order in which their owner got them counts:
    `"dense"`, `"dense#1"`.

    Not among them is the state of the generator that `keras.random` draws from
    where it is given no seed: it belongs to the process.

    Args:
        model: built. The optimizer's and the metrics' variables are those that
            exist so far; `build_state` makes all.
        optimizer: by default the one that the model was compiled with.

    Returns:
        Name to variable: the model's, the optimizer's, the metrics'.

    Raises:
        ValueError: if the model is not built.

    Example:

    >>> from keras_moe.weights import named_variables
    >>> layers = [keras.layers.Dense(4), keras.layers.Dense(2, name="head")]
    >>> model = keras.Sequential([keras.Input([3]), *layers])
    >>> for name, variable in named_variables(model).items():
    ...     print(name, tuple(variable.shape))
    model/dense/kernel (3, 4)
    model/dense/bias (4,)
    model/head/kernel (4, 2)
    model/head/bias (2,)
    """
    if not model.built:
        raise ValueError(
            f"`model` must be built. Received: {model.name}, which is not."
        )
    names: dict[int, str] = {}
    found: dict[str, keras.Variable] = {}
    taken: set[str] = set()

    def add(prefix: str, variable: Any) -> None:
        if id(variable) in names:
            return
        name = make_unique(prefix + stable_name(variable), taken)
        names[id(variable)] = name
        found[name] = variable

    for layer, where, _ in named_layers(model):
        for variable in _own(layer, "variables"):
            add(MODEL + (f"{where}/" if where else ""), variable)
    if optimizer is None:
        optimizer = optimizer_of(model)
    if optimizer is not None:
        _add_optimizer(optimizer, names, found, taken)
    for metric, where in _named_metrics(model):
        for variable in metric.variables:
            add(f"{METRICS}{where}/", variable)
    return found


def optimizer_of(model: keras.Model) -> keras.optimizers.Optimizer | None:
    """Returns the optimizer; `None` for a model that is not compiled.

    Args:
        model: any.
    """
    # Keras has no attribute before `compile`.
    return getattr(model, "optimizer", None)


def _own(layer: keras.layers.Layer, attribute: str) -> list[Any]:
    """Returns what of an attribute's list is not a sublayer's."""
    children = sublayers(layer)
    below = {
        id(part) for child in children for part in getattr(child, attribute)
    }
    return [part for part in getattr(layer, attribute) if id(part) not in below]


def _named_metrics(
    model: keras.Model,
) -> Iterator[tuple[keras.metrics.Metric, str]]:
    owners = {
        id(metric): owner
        for owner in named_layers(model)
        for metric in _own(owner.layer, "metrics")
    }
    taken: set[str] = set()
    for metric in model.metrics:
        where = stable_name(metric)
        owner = owners.get(id(metric))
        if owner is not None and owner.name:
            # Routers name what they measure after the layers they lie in.
            above = owner.path.split("/")
            rest = [part for part in where.split("/") if part not in above]
            where = "/".join([owner.name, *rest])
        # What `compile` was given is one metric made of many.
        parts = getattr(metric, "metrics", None) or [metric]
        for part in parts:
            below = where if part is metric else f"{where}/{stable_name(part)}"
            yield part, make_unique(below, taken)


def _add_optimizer(
    optimizer: keras.optimizers.Optimizer,
    names: dict[int, str],
    found: dict[str, keras.Variable],
    taken: set[str],
) -> None:
    # Keras names a slot after its variable's path, slashes replaced, which may
    # hold any number; the longest path is the one that is meant.
    references = sorted(
        (
            (f"{variable.path.replace('/', '_')}_", names[id(variable)])
            for variable in found.values()
        ),
        key=lambda reference: len(reference[0]),
        reverse=True,
    )
    for variable in optimizer.variables:
        if id(variable) in names:
            continue
        name = stable_name(variable)
        for path, reference in references:
            if variable.name.startswith(path):
                name = f"{reference}/{variable.name.removeprefix(path)}"
                break
        name = make_unique(OPTIMIZER + name, taken)
        names[id(variable)] = name
        found[name] = variable
