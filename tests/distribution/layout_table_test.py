"""Tables of layouts that a layer brings itself."""

import keras
import pytest

from keras_moe import distribution
from keras_moe import layers
from tests.distribution.layout_map_case import DIM
from tests.distribution.layout_map_case import INNER
from tests.distribution.layout_map_case import NETWORK
from tests.distribution.layout_map_case import OUTER
from tests.distribution.layout_map_case import axes_of
from tests.distribution.layout_map_case import below
from tests.distribution.layout_map_case import functional
from tests.distribution.layout_map_case import mesh


class Own(keras.layers.Layer):
    def __init__(self, table, **kwargs):
        super().__init__(**kwargs)
        self.LAYOUT = table
        self.dense = keras.layers.Dense(16)
        self.network = layers.FeedForward(16)

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(DIM,))
        self.dense.build(shape)
        self.network.build((*shape[:-1], 16))

    def call(self, x):
        return self.network(self.dense(x * self.scale))[..., :DIM]


def test_a_layer_of_ones_own_has_a_table():
    own = Own(
        {
            "scale": ("model",),
            # Without the number that Keras may have given the layer.
            "dense/kernel": ("model", None),
            "dense/bias": ("model",),
            "gone/kernel?": ("model", None),
            "feed_forward/wi/kernel": (None, None),
        },
        name="own",
    )
    keras.layers.Dense(1)  # counts on
    axes = axes_of(functional(own))
    assert axes[own.scale.path] == ("model",)
    assert axes[own.dense.kernel.path] == OUTER
    # Named itself: does not follow the kernel.
    assert axes[own.dense.bias.path] == ("model",)
    # The outermost table counts.
    assert axes[own.network.inner.kernel.path] == (None, None)
    assert axes[own.network.outer.kernel.path] == OUTER


def test_a_subclass_inherits_the_table():
    class Mine(layers.FeedForward):
        pass

    network = Mine(16)
    assert below(network, axes_of(functional(network))) == NETWORK


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"dens/kernel": (None, "model")},
         "'dens/kernel' of Own 'own', which has no such weight: .*'dense/ker"),
        ({"dense/kernel": ("model",)},
         r"'dense/kernel' of Own 'own', which has shape \(8, 16\): \('model"),
        ({"scale": "model"}, "'scale' of Own 'own', which has shape"),
        ({0: ("model",)}, "entry 0 of Own 'own', which is no name"),
        ({"scale": (1,)}, r"'scale' .*must name different mesh axes: \(1,\)"),
        ({"dense/kernel": ("model", "model")},
         r"'dense/kernel' .*must name different mesh axes: \('model', 'm"),
        ("NHWC", "must be a dictionary.*Own.LAYOUT='NHWC'"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused(table, message):
    model = functional(Own(table, name="own"))
    with pytest.raises(ValueError, match=message):
        distribution.layout_map(mesh(model=2), model)


class Pair(keras.Model):
    """Two layers of one name, each built before."""

    def __init__(self, other):
        super().__init__()
        self.network = layers.FeedForward(16, name="part")
        self.other = other
        for layer in (self.network, self.other):
            layer.build((None, DIM))
        self.built = True


class Plain(keras.layers.Layer):
    """Has a kernel of a network's name, but no table."""

    def build(self, shape):
        self.dense = keras.layers.Dense(16, name="wi")
        self.dense.build(shape)


def test_weights_of_one_path_must_lie_alike():
    same = Pair(layers.FeedForward(16, name="part"))
    assert below(same.network, axes_of(same)) == NETWORK
    other = Pair(Plain(name="part"))
    assert other.other.dense.kernel.path == other.network.inner.kernel.path
    with pytest.raises(ValueError, match="different paths.*'part/wi/kernel'"):
        axes_of(other)


class Tied(keras.layers.Layer):
    """Two layers with one bias, which is named after the first."""

    LAYOUT = {"back/kernel": (None, "model")}

    def build(self, shape):
        self.into = keras.layers.Dense(DIM, name="into")
        self.into.build(shape)
        self.back = keras.layers.Dense(DIM, name="back", use_bias=False)
        self.back.build(shape)
        self.back._tracker.unlock()
        self.back.bias = self.into.bias
        self.back._tracker.lock()

    def call(self, x):
        return self.back(self.into(x))


def test_a_bias_may_belong_to_several_layers():
    tied = Tied()
    assert below(tied, axes_of(functional(tied))) == {"back/kernel": INNER}
