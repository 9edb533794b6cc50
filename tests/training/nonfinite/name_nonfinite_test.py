import keras
import numpy as np
import pytest

import keras_moe
from keras_moe.training._build_state import build_state
from keras_moe.training.nonfinite._name_nonfinite import name_nonfinite
from keras_moe.weights._layer_names import named_layers
from keras_moe.weights._named_state import named_state
from tests.training.example_model import X
from tests.training.example_model import Y
from tests.training.example_model import assert_equal
from tests.training.example_model import make_built_model
from tests.training.example_model import values_of


@keras.saving.register_keras_serializable("name_nonfinite_test")
class Log(keras.layers.Layer):
    def call(self, x):
        return keras.ops.log(x)


class Block(keras.layers.Layer):
    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner
        self.dropout = keras.layers.Dropout(0.5)

    def call(self, x, training=None):
        return self.dropout(self.inner(x), training=training)


class Subclassed(keras.Model):
    def __init__(self, bad):
        super().__init__(name="model")
        self.blocks = [
            Block(keras.layers.Activation("relu"), name="block_0"),
            Block(bad, name="block_1"),
        ]
        self.head = keras.layers.Dense(1)

    def call(self, x, training=None):
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(x)


def say(model, *arguments, **keywords):
    """Asks, and makes sure that nothing changed."""
    before = values_of(model)
    attributes = [set(vars(layer)) for layer, _, _ in named_layers(model)]
    text = name_nonfinite(model, *arguments, **keywords)
    assert_equal(values_of(model), before)
    assert attributes == [set(vars(x)) for x, _, _ in named_layers(model)]
    return text


@pytest.fixture(scope="module")
def trained():
    # A few steps take less time than their graph.
    model = make_built_model(run_eagerly=True)
    model.train_on_batch(X, Y)
    return model


def spoil(variable, value, index=-1):
    values = np.array(np.asarray(variable))
    values.flat[index] = value
    variable.assign(values)


def test_nothing_to_name(trained):
    assert say(trained, (X, Y)).startswith("all is finite")
    assert say(trained, X, training=False).startswith("all is finite")


def test_random_numbers_are_those_of_the_next_step(trained):
    before = values_of(trained)
    say(trained, (X, Y))
    loss = trained.train_on_batch(X, Y)
    for name, variable in named_state(trained).items():
        variable.assign(before[name])
    assert trained.train_on_batch(X, Y) == loss


def test_data(trained):
    spoilt = X.copy()
    spoilt[1, 2, 3] = np.nan
    assert say(trained, (spoilt, Y)) == (
        "the input holds NaN (1 of 192 values: 1 NaN)."
    )
    labels = Y.copy()
    labels[0, 0, :2] = -np.inf
    assert say(trained, (X, labels)) == (
        "the label holds infinity (2 of 72 values: 2 -inf)."
    )
    weights = np.full([4, 6], np.inf)
    assert say(trained, (X, Y, weights)).startswith(
        "the sample weight holds infinity"
    )


def test_ids_outside_the_vocabulary():
    model = keras_moe.models.SwitchTransformer.from_preset(
        "switch_tiny",
        num_experts=0,
        num_encoder_layers=1,
        num_decoder_layers=1,
    )
    model.compile(loss=keras_moe.losses.token_crossentropy, jit_compile=False)
    ids = np.array([[5, 6, 7]])
    inputs = {"encoder_token_ids": ids, "decoder_token_ids": ids}
    labels = np.array([[5, 400, 1]])
    assert np.isnan(model.train_on_batch(inputs, labels))
    assert say(model, (inputs, labels)).startswith(
        "the batch: `labels` must be ids from 0 to 31, or 0 or -100 to be left "
        "out. Received: 400"
    )
    wrong = {**inputs, "encoder_token_ids": np.array([[5, -6, 7]])}
    assert say(model, (wrong, ids)) == (
        "the batch: `token_ids` must be ids from 0 to 31. Received: -6 at "
        "(0, 1), 1 of 3 wrong."
    )


def test_named_input():
    inputs = {
        "x": keras.Input([2], name="x"),
        "ids": keras.Input([2], name="ids", dtype="int32"),
    }
    model = keras.Model(inputs, inputs["x"] + 1.0)
    batch = {"x": np.array([[np.nan, 1.0]]), "ids": np.ones([1, 2], "int32")}
    assert say(model, (batch,)).startswith("the input 'x' holds NaN (1 of 2")


def test_data_that_are_no_numbers():
    inputs = {
        "text": keras.Input([1], name="text", dtype="string"),
        "x": keras.Input([2], name="x"),
    }
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs["x"]))
    batch = {"text": np.array([["nan"]]), "x": np.array([[np.inf, 1.0]])}
    assert say(model, (batch,)).startswith("the input 'x' holds infinity (1 of")


def test_weights_and_optimizer(trained):
    before = values_of(trained)
    for name, text in [
        ("model/sequential/dense#1/kernel",
         "the weight 'sequential/dense#1/kernel' is not finite before"),
        ("optimizer/model/dense/bias/momentum",
         "the value 'optimizer/model/dense/bias/momentum' is not finite"),
    ]:  # fmt: skip
        variable = named_state(trained)[name]
        spoil(variable, np.nan)
        assert say(trained, (X, Y)).startswith(text)
        variable.assign(before[name])


def test_subclassed_names_the_innermost():
    for bad, path in [
        (Log(name="log"), "log"),
        (Block(Log(name="in"), name="b"), "b/in"),
    ]:
        model = Subclassed(bad)
        model(np.ones([2, 3]))
        x = np.full([2, 3], 0.0, "float32")
        assert say(model, x, training=False) == (
            f"layer 'model/block_1/{path}' (Log): its inputs are finite, its "
            "outputs are not (6 of 6 values: 6 -inf)."
        )


def test_what_an_owner_does_between_its_layers():
    class Owner(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="owner")
            self.first = keras.layers.Dense(2, kernel_initializer="zeros")
            self.second = keras.layers.Dense(2)

        def call(self, x):
            x = self.first(x)
            return self.second(x / x)

    model = keras.Sequential([keras.Input([2]), Owner()], name="model")
    assert say(model, np.ones([3, 2])).startswith(
        "layer 'model/owner' (Owner): its inputs are finite"
    )


def test_functional_operations_and_nested_models():
    inner_input = keras.Input([2])
    inner = keras.Model(inner_input, keras.ops.log(inner_input), name="inner")
    inputs = keras.Input([2])
    model = keras.Model(
        inputs, inner(keras.layers.ReLU()(inputs)), name="outer"
    )
    text = say(model, np.full([1, 2], -3.0))
    assert text.startswith("layer 'outer/inner/log") and "(Log)" in text


def test_a_mask_is_no_culprit():
    class Mask(keras.layers.Layer):
        def call(self, x):
            return keras.ops.where(x > 0, x, -np.inf)

    inputs = keras.Input([3])
    masked = Mask(name="mask")(inputs)
    x = np.array([[1.0, -1.0, 2.0]])
    model = keras.Model(inputs, keras.layers.Softmax()(masked), name="model")
    assert say(model, x).startswith("all is finite")
    outputs = keras.layers.Softmax(name="soft")(masked)
    model = keras.Model(inputs, Log(name="log")(outputs - 1.0), name="model")
    text = say(model, x)
    assert text.startswith("layer 'model/mask' (Mask)")
    assert text.endswith("the first after it is layer 'model/log' "
                         "(3 of 3 values: 3 NaN).")  # fmt: skip


def test_overflow_in_a_mixture(trained):
    text = say(trained, (X * np.float32(3e37), Y))
    assert "random_feature_attention" in text and "outputs are not" in text
    mixture = trained.layers[-3]
    assert isinstance(mixture, keras_moe.layers.SparseMoE)
    name = "model/sparse_moe/experts/wi/kernel"
    kernel = named_state(trained)[name]
    before = np.array(np.asarray(kernel))
    kernel.assign(np.full(kernel.shape, 3e38, "float32"))
    text = say(trained, (X, Y))
    # Its executor multiplies by the experts' kernels itself.
    assert f"layer '{trained.name}/{mixture.name}" in text
    kernel.assign(before)


def make_linear(loss, optimizer="sgd", **kwargs):
    layer = keras.layers.Dense(1, name="head", **kwargs)
    model = keras.Sequential([keras.Input([2]), layer], name="model")
    model.compile(optimizer, loss)
    return model


def test_loss():
    model = make_linear(lambda y, p: keras.ops.log(p - p))
    assert say(model, (np.ones([3, 2]), np.ones([3, 1]))) == (
        "the loss: the outputs are finite, the loss is not (1 of 1 values: "
        "1 -inf)."
    )


def test_loss_that_a_layer_adds():
    class Adds(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.log(keras.ops.sum(x - x)))
            return x

    inputs = keras.Input([2])
    model = keras.Model(inputs, Adds(name="adds")(inputs), name="model")
    model.compile("sgd", "mse")
    text = say(model, (np.ones([3, 2]), np.ones([3, 2])))
    assert text.startswith("the loss that layer 'model/adds' adds")


def test_gradient():
    # The root of 0 is 0, its slope is infinite.
    model = make_linear(
        lambda y, p: keras.ops.sqrt(p * p), kernel_initializer="zeros"
    )
    assert say(model, (np.ones([3, 2]), np.ones([3, 1]))).startswith(
        "the gradient of 'head/bias': the loss is finite, the gradient is not"
    )


def test_gradient_through_a_mask():
    class Mask(keras.layers.Layer):
        def call(self, x):
            return keras.ops.log(x - x)

    class Use(keras.layers.Layer):
        def call(self, inputs):
            x, masked = inputs
            return keras.ops.where(masked < 0, x, masked * x)

    inputs = keras.Input([2])
    x = keras.layers.Dense(2, name="dense")(inputs)
    outputs = Use(name="use")([x, Mask(name="mask")(x)])
    model = keras.Model(inputs, outputs, name="model")
    model.compile("sgd", "mse")
    text = say(model, (np.ones([3, 2]), np.ones([3, 2])))
    assert text.startswith("the gradient of 'dense/bias'")
    assert "On the way, layer 'model/mask' (Mask)" in text


def test_update():
    model = make_linear("mse", keras.optimizers.SGD(1e30))
    build_state(model, (np.ones([3, 2]), np.ones([3, 1])))
    assert say(model, (np.full([3, 2], 1e10), np.ones([3, 1]))).startswith(
        "the update of 'model/head/kernel': the gradients are finite"
    )


def test_layers_are_left_alone_after_an_error(trained):
    with pytest.raises(Exception, match="Dense|shape|dimension|Matrix"):
        say(trained, (np.ones([2, 6, 5], "float32"), Y))
    for layer, _, _ in named_layers(trained):
        assert "call" not in vars(layer)


def test_quantized_layer():
    model = make_linear("mse")
    model.quantize("int8")
    x = np.full([1, 2], 1e38, "float32")
    model.layers[0].bias.assign([3e38])
    model.layers[0].kernel_scale.assign([1e-30])
    assert say(model, x).startswith("layer 'model/head' (Dense)")
