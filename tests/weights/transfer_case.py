"""Models to transfer weights between, and a source that counts reads."""

import collections

import keras
import numpy as np

from keras_moe.weights import LazyArray
from keras_moe.weights import Recipe
from keras_moe.weights import named_weights

SIZES = (3, 4, 4, 2)


def make(*sizes, dtype="float32", name=None):
    sizes = sizes or SIZES
    layers = [keras.layers.Dense(size, dtype=dtype) for size in sizes[1:]]
    return keras.Sequential([keras.Input([sizes[0]]), *layers], name=name)


def randomize(model):
    for weight in model.weights:
        weight.assign(np.random.normal(size=weight.shape))
    return model


def bits(model):
    return {
        name: (str(v.dtype), np.asarray(v).tobytes())
        for name, v in named_weights(model).items()
    }


def arrays(model):
    return {n: np.array(np.asarray(v)) for n, v in named_weights(model).items()}


class Counted(collections.abc.Mapping):
    """A file of weights that counts what is read, and keeps nothing."""

    def __init__(self, values, fails=()):
        self.values_ = values
        self.fails = fails
        self.reads = []

    def __getitem__(self, name):
        value = self.values_[name]

        def read():
            self.reads.append(name)
            if name in self.fails:
                raise OSError("the file is cut off")
            return value.copy()

        return LazyArray(value.shape, value.dtype, read)

    def __iter__(self):
        return iter(self.values_)

    def __len__(self):
        return len(self.values_)


def averaged(*sources):
    return averaged_of(sources)


def averaged_of(sources):
    return Recipe(
        sources,
        make=lambda *values: np.mean(values, axis=0),
        shape=lambda *shapes: shapes[0],
    )
