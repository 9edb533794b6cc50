"""All that a training changes, under the names of the model's weights."""

from collections.abc import Iterator

import keras

from keras_moe.weights._layer_names import NamedLayer
from keras_moe.weights._layer_names import make_unique
from keras_moe.weights._layer_names import named_layers
from keras_moe.weights._layer_names import stable_name
from keras_moe.weights._named_weights import named_weights
from keras_moe.weights._own_metrics import own_metrics

MODEL = "model/"
OPTIMIZER = "optimizer/"
METRICS = "metrics/"


def named_state(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer | None = None,
) -> dict[str, keras.Variable]:
    """Names all variables of a model and of its training.

    The model's have their names of `named_weights` after `"model/"`. Variables
    of the optimizer are named after the weight that they belong to,
    `"optimizer/model/block/dense/kernel/momentum"`, and those of metrics after
    the layer that holds the metric: `"metrics/block/router/load/counts"`,
    `"metrics/loss/total"`.

    The generator that `keras.random` draws from without a seed belongs to the
    process, and its state is not among them.

    Args:
        model: built. The optimizer's and the metrics' variables are those that
            exist so far; `build_state` makes all.
        optimizer: by default the one that the model was compiled with.

    Returns:
        Name to variable: the model's, the optimizer's, the metrics'.

    Raises:
        ValueError: if the model is not built.

    Example:

    >>> model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> optimizer = keras.optimizers.SGD(momentum=0.9)
    >>> optimizer.build(model.trainable_variables)
    >>> for name in keras_moe.weights.named_state(model, optimizer):
    ...     print(name)
    model/dense/kernel
    model/dense/bias
    optimizer/iteration
    optimizer/learning_rate
    optimizer/model/dense/kernel/momentum
    optimizer/model/dense/bias/momentum
    """
    found = {MODEL + name: v for name, v in named_weights(model).items()}
    if optimizer is None:
        optimizer = optimizer_of(model)
    if optimizer is not None:
        found |= _named_slots(optimizer, found)
    known = {id(variable) for variable in found.values()}
    taken = set(found)
    for metric, where in _named_metrics(model):
        for variable in metric.variables:
            if id(variable) not in known:
                known.add(id(variable))
                name = f"{METRICS}{where}/{stable_name(variable)}"
                found[make_unique(name, taken)] = variable
    return found


def optimizer_of(model: keras.Model) -> keras.optimizers.Optimizer | None:
    """Returns the optimizer; `None` for a model that is not compiled.

    Args:
        model: any.
    """
    # Keras has no attribute before `compile`.
    return getattr(model, "optimizer", None)


def _named_metrics(
    model: keras.Model,
) -> Iterator[tuple[keras.metrics.Metric, str]]:
    owners: dict[int, NamedLayer] = {}
    # A layer may keep metrics that no log shows. They lie on the devices of the
    # others, and a training may be resumed with other logs.
    silent: list[keras.metrics.Metric] = []
    shown = {id(metric) for metric in model.metrics}
    for named in named_layers(model):
        own = own_metrics(named.layer)
        owners |= {id(metric): named for metric in own}
        if not isinstance(named.layer, keras.Model):
            silent += [metric for metric in own if id(metric) not in shown]
    losses = _names_of_losses(model)
    taken: set[str] = set()
    for metric in (*model.metrics, *silent):
        where = losses.get(metric.name) or stable_name(metric)
        owner = owners.get(id(metric))
        if owner is not None and owner.name:
            # Routers name what they measure after the layers they lie in.
            above = owner.path.split("/")
            rest = [part for part in where.split("/") if part not in above]
            where = "/".join([owner.name, *rest])
        # Metrics given to `compile` are held by one metric made of many.
        parts = getattr(metric, "metrics", None) or [metric]
        for part in parts:
            below = where if part is metric else f"{where}/{stable_name(part)}"
            yield part, make_unique(below, taken)


def _names_of_losses(model: keras.Model) -> dict[str, str]:
    """Names the losses of single outputs without what Keras counts.

    Keras calls them after the layers that make the outputs: `dense_3_loss`.
    """
    outputs = set(getattr(model, "output_names", None) or ())
    return {
        f"{layer.name}_loss": f"{name}_loss"
        for layer, name, _ in named_layers(model)
        if layer.name in outputs
    }


def _named_slots(
    optimizer: keras.optimizers.Optimizer, weights: dict[str, keras.Variable]
) -> dict[str, keras.Variable]:
    """Names an optimizer's variables, most of them after their weight."""
    # Keras names a slot after its weight's path, slashes replaced; the path may
    # contain counted names. One weight's path may begin another's, so the
    # longest match wins.
    references = sorted(
        (
            (f"{variable.path.replace('/', '_')}_", name)
            for name, variable in weights.items()
        ),
        key=lambda reference: len(reference[0]),
        reverse=True,
    )
    known = {id(variable) for variable in weights.values()}
    taken: set[str] = set()
    found: dict[str, keras.Variable] = {}
    for variable in optimizer.variables:
        if id(variable) in known:
            continue
        known.add(id(variable))
        name = stable_name(variable)
        for path, reference in references:
            if variable.name.startswith(path):
                name = f"{reference}/{variable.name.removeprefix(path)}"
                break
        found[make_unique(OPTIMIZER + name, taken)] = variable
    return found
