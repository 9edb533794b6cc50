"""The one naming of a model's variables."""

import keras

from keras_moe.keras_internals import sublayers
from keras_moe.weights._layer_names import make_unique
from keras_moe.weights._layer_names import named_layers
from keras_moe.weights._layer_names import stable_name


def named_weights(model: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Names the variables of a model.

    A name says where a variable lies: `"block/dense/kernel"`. It contains
    neither the model's own name nor the numbers that Keras appends to the
    names of what was made before in the same process. So a model has the same
    names in each process, and when it is saved and loaded. Layers of one name
    in one owner are told apart by the order in which the owner got them:
    `"dense"`, `"dense#1"`. A layer that is used several times is named once,
    after its first place. A number that Keras could have appended counts as
    Keras's, even if it was given by hand: a `Dense` that is called `"dense_1"`
    is a `"dense"`, while `"block_1"` stays as it is.

    Checkpoints, `fingerprint` and `transfer` know variables by these names.

    Args:
        model: built; a model, or any other layer.

    Returns:
        Name to variable, in the order of layers: weights, trainable or not,
        and the states of random seeds. The optimizer and metrics are not part
        of a model; `named_state` has them, too.

    Raises:
        ValueError: if the model is not built.

    Example:

    >>> layers = [keras.layers.Dense(4), keras.layers.Dense(2, name="head")]
    >>> model = keras.Sequential([keras.Input([3]), *layers])
    >>> for name, variable in keras_moe.weights.named_weights(model).items():
    ...     print(name, tuple(variable.shape))
    dense/kernel (3, 4)
    dense/bias (4,)
    head/kernel (4, 2)
    head/bias (2,)
    """
    if not model.built:
        raise ValueError(
            f"`model` must be built. Received: {model.name}, which is not."
        )
    named: dict[str, keras.Variable] = {}
    known: set[int] = set()
    taken: set[str] = set()
    for layer, where, _ in named_layers(model):
        prefix = f"{where}/" if where else ""
        for variable in _own_variables(layer):
            if id(variable) not in known:
                known.add(id(variable))
                name = make_unique(prefix + stable_name(variable), taken)
                named[name] = variable
    return named


def without_state(
    named: dict[str, keras.Variable], model: keras.layers.Layer
) -> dict[str, keras.Variable]:
    """Leaves out variables that Keras counts as no weights: states of seeds.

    Args:
        named: of `named_weights`.
        model: whose they are.

    Returns:
        Name to weight, trainable or not.
    """
    weights = {id(weight) for weight in model.weights}
    return {name: v for name, v in named.items() if id(v) in weights}


def _own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns the variables of a layer that are not its sublayers'."""
    below = {
        id(variable)
        for child in sublayers(layer)
        for variable in child.variables
    }
    return [v for v in layer.variables if id(v) not in below]
