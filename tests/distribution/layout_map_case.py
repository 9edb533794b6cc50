"""Meshes, and the axes along which each layer's weights lie."""

import keras
import numpy as np

from keras_moe import distribution

DIM = 8


def mesh(**axes):
    count = int(np.prod([*axes.values()]))
    return keras.distribution.DeviceMesh(
        (*axes.values(),), [*axes], devices=[f"cpu:{i}" for i in range(count)]
    )


def axes_of(model, device_mesh=None):
    """Path of a weight that a table names to its axes."""
    device_mesh = device_mesh or mesh(batch=1, expert=2, model=2)
    layouts = distribution.layout_map(device_mesh, model)
    assert layouts.device_mesh is device_mesh
    return {path: layout.axes for path, layout in layouts.items()}


def below(layer, axes):
    """The part of a layer's own, by the rest of the path."""
    prefix = f"{layer.path}/"
    return {
        path.removeprefix(prefix): value
        for path, value in axes.items()
        if path.startswith(prefix)
    }


INNER, OUTER = (None, "model"), ("model", None)
T5 = {
    "query/kernel": INNER,
    "key/kernel": INNER,
    "value/kernel": INNER,
    "output/kernel": OUTER,
}
NETWORK = {"wi/kernel": INNER, "wo/kernel": OUTER}
EXPERTS = {
    "experts/wi/kernel": ("expert", None, "model"),
    "experts/wo/kernel": ("expert", "model", None),
}
HEADS = {
    "query/kernel": (None, "model", None),
    "query/bias": ("model", None),
    "key/kernel": (None, "model", None),
    "key/bias": ("model", None),
    "value/kernel": (None, "model", None),
    "value/bias": ("model", None),
    "attention_output/kernel": ("model", None, None),
    "attention_output/bias": (None,),
}


def functional(*sublayers):
    x = inputs = keras.Input([4, DIM])
    for layer in sublayers:
        x = layer(x)
    return keras.Model(inputs, x)
