import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import keras_internals


class Block(keras.layers.Layer):
    """A layer with others in a list, of which one has another."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Dense(2, name="first")
        self.rest = [
            keras.layers.TimeDistributed(
                keras.layers.Dense(2, name="inner"), name="second"
            ),
            self.first,
        ]
        self.built = True

    def call(self, x):
        self.add_loss(keras.ops.sum(x))
        return self.first(x)


def compiled(**options):
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    model.compile("adam", "mse", **options)
    return model


def names(layers):
    return [layer.name for layer in layers]


# === Layers ===


def test_layers_are_flattened_each_once():
    block = Block()
    flat = keras_internals.flatten_layers(block)
    assert flat[0] is block
    assert sorted(names(flat[1:])) == ["first", "inner", "second"]
    assert names(flat).index("second") < names(flat).index("inner")
    below = keras_internals.flatten_layers(block, include_self=False)
    assert names(below) == names(flat[1:])


def test_sublayers_come_in_the_order_of_their_making():
    assert names(keras_internals.sublayers(Block())) == ["first", "second"]


@pytest.mark.parametrize("built", [False, True])
def test_sublayers_are_replaced(built):
    block = Block()
    if built:
        block(np.ones((1, 2)))
    assert keras_internals.sublayers(block)[0] is block.first
    keras_internals.replace_sublayer(block, "first", lambda x: x)
    assert names(keras_internals.sublayers(block)) == ["second"]
    other = keras.layers.Dense(2, name="other")
    keras_internals.replace_sublayer(block, "first", other)
    assert names(keras_internals.sublayers(block)) == ["second", "other"]


class Outer(keras.layers.Layer):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        keras_internals.take_call_signature(self, inner)

    def call(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


def test_arguments_are_those_of_another_layer():
    class Inner(keras.layers.Layer):
        def call(self, x, other=None, setting=False, training=None):
            return x + other if setting and training else x

    x, other = keras.Input([2]), keras.Input([2])
    outer = Outer(Inner())
    model = keras.Model([x, other], outer(x, other=other, setting=True))
    ones = np.ones((1, 2))
    assert np.all(model([ones, ones], training=True) == 2)
    assert np.all(model([ones, ones]) == 1)


def test_names_are_counted_as_keras_counts_them():
    name = keras_internals.count_name("counted_layer")
    assert name == "counted_layer"
    assert keras_internals.count_name("counted_layer") == f"{name}_1"


def test_own_losses_are_without_those_of_sublayers():
    outer = keras.Sequential([Block(), keras.layers.ActivityRegularization(1)])
    outer(np.ones((1, 2)))
    block, regularization = outer.layers
    assert [float(x) for x in keras_internals.own_losses(block)] == [2.0]
    assert len(keras_internals.own_losses(regularization)) == 1
    assert keras_internals.own_losses(outer) == []
    assert len(outer.losses) == 2


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Dense(2),
        keras.layers.EinsumDense("ab,bc->ac", output_shape=2),
    ],
)
def test_the_kernel_that_is_stored_is_a_variable_whatever_is_added(layer):
    layer.build((None, 3))
    kernel = keras_internals.stored_kernel(layer)
    assert kernel is layer.kernel
    layer.enable_lora(1)
    assert keras_internals.stored_kernel(layer) is kernel
    layer.quantize("int8")
    stored = keras_internals.stored_kernel(layer)
    assert isinstance(stored, keras.Variable)
    assert stored.dtype == "int8"
    assert any(stored is weight for weight in layer.weights)


def test_a_layer_without_a_kernel_stores_none():
    assert keras_internals.stored_kernel(keras.layers.Embedding(2, 2)) is None
    assert keras_internals.stored_kernel(keras.layers.Dense(2)) is None


def test_the_projection_of_queries_has_their_weights():
    attention = keras.layers.MultiHeadAttention(2, 4)
    attention(np.ones((1, 3, 8)), np.ones((1, 3, 8)))
    projection = keras_internals.query_projection(attention)
    assert isinstance(projection, keras.layers.EinsumDense)
    assert projection.kernel.path.endswith("query/kernel")
    projection.quantize("int8")
    again = keras_internals.query_projection(attention)
    assert again.quantization_mode == "int8"


def test_nodes_are_those_of_one_model():
    shared = keras.layers.Dense(2)
    inputs = keras.Input([2])
    keras.Model(inputs, shared(inputs))
    model = keras.Model(inputs, shared(shared(inputs)))
    nodes = keras_internals.functional_nodes(model)
    assert sum(node.operation is shared for node in nodes) == 2
    assert sum(node.is_input for node in nodes) == 1
    assert len(nodes) == 3


# === Compiled models ===


def test_a_batch_builds_what_its_first_step_would():
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile("adam", "mse", metrics=["mae"])
    batch = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    keras_internals.build_from_batch(model, batch)
    assert model.built and model.optimizer.built
    assert int(model.optimizer.iterations) == 0
    assert keras_internals.compile_metrics(model).built
    assert keras_internals.compile_loss(model).built


def test_what_compile_was_given():
    model = compiled(metrics=["mae"])
    metrics = keras_internals.compile_metrics(model)
    assert isinstance(metrics, keras.metrics.Metric)
    assert not metrics.built
    loss = keras_internals.compile_loss(model)
    assert float(loss(np.zeros((1, 2)), np.full((1, 2), 3.0))) == 9.0
    assert keras_internals.compile_metrics(compiled()) is None
    bare = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    assert keras_internals.compile_metrics(bare) is None
    bare.compile("adam")
    assert keras_internals.compile_loss(bare) is None


@pytest.mark.parametrize("takes_training", [False, True])
def test_the_loss_is_computed_as_a_step_does(takes_training):
    class WithTraining(keras.Sequential):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            return (y, sample_weight, training)

    class Without(keras.Sequential):
        def compute_loss(self, x, y, y_pred, sample_weight):
            return (y, sample_weight, None)

    model = (WithTraining if takes_training else Without)()
    returned = keras_internals.compute_loss(
        model, "x", "y", "y_pred", "weight", training=False
    )
    assert returned == ("y", "weight", False if takes_training else None)


# === Tensors ===


def test_a_mask_is_the_one_that_keras_makes_and_heeds():
    ids = np.array([[3, 0]])
    embedded = keras.layers.Embedding(4, 2, mask_zero=True)(ids)
    np.testing.assert_array_equal(
        keras_internals.get_mask(embedded), [[True, False]]
    )
    assert keras_internals.get_mask(tf.zeros((1, 2))) is None
    assert keras_internals.get_mask(np.zeros((1, 2))) is None

    outputs = tf.constant([[[1.0], [5.0]]])
    keras_internals.set_mask(outputs, tf.constant([[True, False]]))
    loss = keras.losses.MeanAbsoluteError()
    assert float(loss(np.zeros((1, 2, 1)), outputs)) == 1.0
    keras_internals.set_mask(outputs, None)
    assert float(loss(np.zeros((1, 2, 1)), outputs)) == 3.0


def test_the_call_that_made_a_symbolic_tensor():
    x, y = keras.Input([3]), keras.Input([3])
    layer = keras.layers.Dense(2, name="dense")
    dense = layer(x, training=False)
    operation, args, kwargs = keras_internals.symbolic_call(dense + layer(y))
    assert type(operation).__name__ == "Add" and kwargs == {}
    assert args[0] is dense
    call = keras_internals.symbolic_call(args[0])
    assert call == (layer, (x,), {"training": False})
    assert keras_internals.symbolic_call(args[1])[1][0] is y
    assert keras_internals.symbolic_call(np.ones(3)) is None
    assert keras_internals.symbolic_call(keras.KerasTensor([3])) is None


# === Variables and optimizers ===


def test_a_backend_variable_is_the_one_that_is_read_and_written():
    variable = keras.Variable(np.ones(2, "float32"))
    held = keras_internals.backend_variable(variable)
    assert isinstance(held, tf.Variable)
    held.assign([2.0, 3.0])
    np.testing.assert_array_equal(variable.numpy(), [2, 3])
    with keras.StatelessScope(
        [(variable, keras.ops.convert_to_tensor([4.0, 4.0]))]
    ):
        assert keras_internals.backend_variable(variable) is held


def test_a_backend_variable_can_be_replaced():
    variable = keras.Variable(np.ones(2, "float32"))
    other = tf.Variable([5.0, 6.0])
    mesh = keras.distribution.DeviceMesh((1,), ["model"], ["cpu:0"])
    layout = keras.distribution.TensorLayout(["model"], mesh)
    keras_internals.replace_backend_variable(variable, other, layout)
    np.testing.assert_array_equal(variable.numpy(), [5, 6])
    variable.assign([7.0, 8.0])
    np.testing.assert_array_equal(other.numpy(), [7, 8])
    # What Keras on JAX reads; it has no public name.
    assert variable._layout is layout
    assert "_layout" in keras_source("backend/jax/core.py")


def keras_source(name):
    import keras.src

    return (pathlib.Path(keras.src.__file__).parent / name).read_text()


def test_an_optimizer_finds_weights_whose_variables_were_replaced():
    weight = keras.Variable(np.ones(2, "float32"))
    optimizer = keras.optimizers.SGD(1.0, momentum=0.5)
    optimizer.build([weight])
    assert keras_internals.trained_variables(optimizer) == [weight]
    keras_internals.replace_backend_variable(
        weight, tf.Variable([1.0, 1.0]), None
    )
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply([tf.ones(2)], [weight])
    keras_internals.reindex_variables(optimizer)
    optimizer.apply([tf.ones(2)], [weight])
    np.testing.assert_array_equal(weight.numpy(), [0, 0])


def test_an_optimizer_knows_its_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        optimizer = keras.optimizers.SGD()
    assert keras_internals.strategy_of_optimizer(optimizer) is strategy
    default = keras_internals.strategy_of_optimizer(keras.optimizers.SGD())
    assert default is tf.distribute.get_strategy()


# === Scopes ===


def test_a_stateless_scope_is_noticed():
    assert not keras_internals.in_stateless_scope()
    with keras.StatelessScope():
        assert keras_internals.in_stateless_scope()
    assert not keras_internals.in_stateless_scope()


def test_random_values_may_be_left_out():
    with keras_internals.zeros_for_random_values():
        layer = keras.layers.Dense(3, bias_initializer="ones")
        layer.build((None, 2))
    np.testing.assert_array_equal(layer.kernel, np.zeros((2, 3)))
    np.testing.assert_array_equal(layer.bias, np.ones(3))
    later = keras.layers.Dense(3)
    later.build((None, 2))
    assert np.all(np.asarray(later.kernel) != 0)
