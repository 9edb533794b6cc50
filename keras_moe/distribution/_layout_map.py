"""How the weights of any model lie on a mesh."""

import re

import keras

from keras_moe.distribution._layout_tables import axes_of_tables
from keras_moe.types import Axes


def layout_map(
    device_mesh: keras.distribution.DeviceMesh, model: keras.Model
) -> keras.distribution.LayoutMap:
    """Returns how the weights of a model lie on a mesh of devices.

    Each layer says where its weights lie, in a table beside them:

    - `Experts`, and so `SparseMoE`: `wi`, `wi_gate` and `wo` have their experts
      along `"expert"` and `hidden_dim` along `"model"`.
    - `FeedForward`: `wi`, `wi_gate` and `wo` have `hidden_dim` along `"model"`.
    - `T5Attention`: `query`, `key`, `value` and `output` have heads along
      `"model"`.
    - `RandomFeatureAttention`: `query`, `key`, `value` and `attention_output`
      have heads along `"model"`.
    - `Retrieval`: candidates along `"model"`.
    - `SwitchTransformer`: embeddings have `model_dim` along `"model"`.

    Their biases, scales of int8 and factors of LoRA lie as their kernels do.
    All other weights are whole on each device: routers, norms, biases of
    positions, and Keras's own layers such as `Dense`, `Embedding` and
    `MultiHeadAttention`, unless a layer that contains them has a table that
    names their weights. An axis that the mesh lacks is whole, too. Sizes are
    not compared with the mesh here: `engine.distribute` refuses a weight whose
    size the devices do not divide.

    A layer of your own has its table in an attribute `LAYOUT`: a dictionary
    from the name of a weight, as `keras_moe.weights.named_weights(layer)` has
    it, to a tuple with a mesh axis, or `None`, for each axis of the weight. A
    name that ends in `"?"` is of a weight that the layer may not have. Where
    the tables of several layers name one weight, that of the outermost layer
    counts.

    Args:
        device_mesh: the mesh, of `device_mesh` or with axes of those names.
        model: built; a model, or any other layer. Layers and models within it
            are found at any depth, those of a trainer or distiller as well.

    Returns:
        A `keras.distribution.LayoutMap` from the paths of the weights that
        tables name. It can be changed: `layouts[path] = axes` adds a weight;
        `del layouts[path]` leaves one whole.

    Raises:
        ValueError: if the model is not built; if experts or heads are quantised
            to int4, which packs a kernel's axes into one; if a table names a
            weight that its layer does not have, or has another number of axes;
            if two weights that are to lie differently have the same path.

    Example:

    >>> class Pair(keras.layers.Layer):
    ...     LAYOUT = {
    ...         "into/kernel": (None, "model"),
    ...         "back/kernel": ("model", None),
    ...     }
    ...
    ...     def __init__(self):
    ...         super().__init__(name="pair")
    ...         self.into = keras.layers.Dense(8, name="into")
    ...         self.back = keras.layers.Dense(4, name="back")
    ...
    ...     def build(self, shape):
    ...         self.into.build(shape)
    ...         self.back.build((*shape[:-1], 8))
    ...
    ...     def call(self, x):
    ...         return self.back(self.into(x))
    >>> moe = keras_moe.layers.SparseMoE(2, hidden_dim=8, name="moe")
    >>> inputs = keras.Input([3, 4])
    >>> model = keras.Model(inputs, Pair()(moe(inputs)))
    >>> mesh = keras_moe.distribution.device_mesh(devices=["cpu:0"])
    >>> layouts = keras_moe.distribution.layout_map(mesh, model)
    >>> for path, layout in layouts.items():
    ...     print(path, layout.axes)
    moe/experts/wi/kernel ('expert', None, 'model')
    moe/experts/wo/kernel ('expert', 'model', None)
    pair/into/kernel (None, 'model')
    pair/into/bias ('model',)
    pair/back/kernel ('model', None)
    pair/back/bias (None,)
    """
    if not isinstance(device_mesh, keras.distribution.DeviceMesh):
        raise ValueError(
            "`device_mesh` must be a keras.distribution.DeviceMesh. Received: "
            f"device_mesh={device_mesh!r}."
        )
    if not isinstance(model, keras.layers.Layer) or not model.built:
        raise ValueError(
            "`model` must be a model that is built: call it on data first. "
            f"Received: model={model!r}."
        )
    on_mesh = {*device_mesh.axis_names}
    axes_of = {
        key: tuple(axis if axis in on_mesh else None for axis in axes)
        for key, axes in axes_of_tables(model).items()
    }
    by_path: dict[str, Axes] = {}
    for variable in model.variables:
        axes = axes_of.get(id(variable), ())
        other = by_path.setdefault(variable.path, axes)
        if other != axes and any(other + axes):
            raise ValueError(
                "Weights that lie differently must have different paths: give "
                "their layers names. Received: two weights with the path "
                f"{variable.path!r}, along {other} and {axes}."
            )
    layouts = keras.distribution.LayoutMap(device_mesh)
    for path, axes in by_path.items():
        if axes:
            # `LayoutMap` takes keys for regular expressions: escape the path.
            layouts[re.escape(path)] = axes
    return layouts
