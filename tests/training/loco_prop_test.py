import keras
import numpy as np
import pytest

from keras_moe.training import LocoProp
from keras_moe.training import Trainer

X = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
Y = np.tanh(X[:, :3] * X[:, 1:4])


def stack(*activations, dtype=None, **options):
    keras.utils.set_random_seed(3)
    sizes = [7] * (len(activations) - 1) + [3]
    return keras.Sequential(
        [keras.Input((5,))]
        + [
            keras.layers.Dense(size, activation=a, dtype=dtype, **options)
            for size, a in zip(sizes, activations, strict=True)
        ]
    )


def fit(model, optimizer="sgd", epochs=1, **options):
    weight = np.linspace(0, 2, 8)
    options.setdefault("jit_compile", False)
    model.compile(optimizer, "mse", metrics=["mae"], **options)
    return model.fit(X, Y, 8, epochs, sample_weight=weight, verbose=0).history


@pytest.mark.parametrize("variant", ["m", "s"])
def test_one_local_step_is_plain_training(variant):
    """With SGD for either variant; the last weights and the logs agree."""
    activations = ("tanh", "relu", "sigmoid")
    plain, model = stack(*activations), stack(*activations)
    trainer = LocoProp(model, variant, 1, activation_learning_rate=1.0)
    sgd = [keras.optimizers.SGD(0.5) for _ in range(2)]
    one = fit(plain, sgd[0], 3, run_eagerly=True)
    other = fit(trainer, sgd[1], 3, run_eagerly=True)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-5)
    for a, b in zip(plain.weights, model.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_no_activation_rate_moves_nothing():
    model = stack("tanh", "linear")
    before = model.get_weights()
    fit(LocoProp(model, activation_learning_rate=0.0), run_eagerly=True)
    for a, b in zip(before, model.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


@pytest.mark.parametrize("variant", ["m", "s"])
def test_local_steps_equal_numpy(variant):
    model = stack("tanh", "sigmoid")
    first, second = model.layers
    weights = [w.astype("float64") for w in model.get_weights()]
    rate, far, steps = 0.3, 2.0, 5

    def sums(w):
        hidden = np.tanh(X @ w[0] + w[1])
        return X @ w[0] + w[1], hidden, hidden @ w[2] + w[3]

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    z, hidden, last = sums(weights)
    out = sigmoid(last)
    g = 2 * (out - Y) / 3 * out * (1 - out)  # of an example's loss
    below = (g @ weights[2].T) * (1 - hidden**2)
    outer = (sigmoid, np.tanh) if variant == "m" else (lambda v: v,) * 2
    targets = [outer[1](z) - far * below, outer[0](last) - far * g]
    for step in range(steps):
        share = max(1 - step / steps, 0.25)
        for layer, (x, target) in enumerate(
            zip((X, hidden), targets, strict=True)
        ):
            kernel, bias = weights[2 * layer : 2 * layer + 2]
            found = outer[1 - layer](x @ kernel + bias)
            error = (found - target) / 8
            weights[2 * layer] = kernel - rate * share * x.T @ error
            weights[2 * layer + 1] = bias - rate * share * error.sum(0)
    trainer = LocoProp(model, variant, steps, far)
    trainer.compile(
        keras.optimizers.SGD(rate), "mse", jit_compile=variant == "m"
    )
    trainer.fit(X, Y, 8, verbose=0)
    for a, b in zip(weights, model.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert int(trainer.optimizer.iterations) == steps


@pytest.mark.parametrize("constraint", ["unit_norm", "non_neg"])
def test_constraints_hold_after_each_shorter_step(constraint):
    model = stack("tanh", "linear", kernel_constraint=constraint)
    trainer = LocoProp(model, num_local_steps=4)
    fit(trainer, keras.optimizers.SGD(0.5), run_eagerly=True)
    for layer in model.layers:
        kernel = layer.kernel.numpy()
        np.testing.assert_allclose(
            layer.kernel_constraint(kernel), kernel, atol=1e-6
        )


def test_it_learns_and_saves_the_model_alone(tmp_path):
    model = stack("relu", "linear")
    trainer = LocoProp(model, num_local_steps=4)
    losses = fit(trainer, keras.optimizers.RMSprop(3e-3), 10, run_eagerly=True)[
        "loss"
    ]
    assert losses[-1] < 0.7 * losses[0]
    np.testing.assert_allclose(trainer.predict(X, verbose=0), model(X), 1e-5)
    trainer.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is keras.Sequential
    np.testing.assert_array_equal(loaded(X), model(X))


def test_frozen_layers_stay_and_have_no_slots():
    model = stack("relu", "relu", "linear")
    model.layers[1].trainable = False
    before = [w.numpy() for w in model.layers[1].weights]
    trainer = LocoProp(model)
    fit(trainer, "adam", run_eagerly=True)
    for a, b in zip(before, model.layers[1].weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(trainer.optimizer.variables) == 2 + 2 * 4
    evaluated = model.get_weights()
    trainer.evaluate(X, Y, verbose=0)
    for a, b in zip(evaluated, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bfloat16_trains():
    model = stack("relu", "linear", dtype="mixed_bfloat16")
    losses = fit(
        LocoProp(model, num_local_steps=2),
        keras.optimizers.RMSprop(1e-2),
        9,
        run_eagerly=True,
    )["loss"]
    assert losses[-1] < losses[0]


def test_a_functional_chain_is_a_stack():
    inputs = keras.Input((5,))
    x = keras.layers.Dense(4, activation="tanh")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    assert [layer.units for layer in LocoProp(model).stack] == [4, 3]


def branching():
    inputs = keras.Input((5,))
    x = keras.layers.Dense(5)(inputs)
    return keras.Model(inputs, keras.layers.Add()([inputs, x]))


def frozen():
    model = stack("linear")
    model.trainable = False
    return model


class Doubled(keras.layers.Dense):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training)


def derived():
    return keras.Sequential([keras.Input((5,)), Doubled(3)])


def with_lora():
    model = stack("relu", "linear")
    model.layers[0].enable_lora(2)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (branching, "must be a stack of .*Add"),
        (derived, "must be a stack of .*Doubled"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), "built"),
        (
            lambda: keras.Sequential(
                [keras.Input((3, 4)), keras.layers.Dense(2)]
            ),
            r"\(batch, size\)",
        ),
        (frozen, "without any"),
        (lambda: stack("gelu", "linear"), "activation='gelu'"),
        (lambda: stack("relu", dtype="mixed_float16"), "dtype='float16'"),
        (lambda: stack("relu", kernel_regularizer="l2"), "kernel_regularizer"),
        (with_lora, "lora_rank=2"),
    ],
)
def test_other_models_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        LocoProp(make())


def test_errors_name_the_argument():
    model = stack("gelu", "linear")
    LocoProp(model, variant="s")  # needs no matching loss
    with pytest.raises(ValueError, match="variant='x'"):
        LocoProp(model, variant="x")
    with pytest.raises(ValueError, match="num_local_steps=0"):
        LocoProp(model, num_local_steps=0)
    with pytest.raises(ValueError, match="activation_learning_rate=-1"):
        LocoProp(model, activation_learning_rate=-1)
    scaling = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    with pytest.raises(ValueError, match="must not scale losses"):
        LocoProp(stack("relu")).compile(scaling, "mse")
    with pytest.raises(NotImplementedError, match="LocoProp"):
        LocoProp(stack("relu")).get_config()


def multi_optimizer(**options):
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            keras.optimizers.SGD(), {"dense.*": keras.optimizers.SGD(**options)}
        )
    )


@pytest.mark.parametrize("make", [keras.optimizers.SGD, multi_optimizer])
def test_gradients_are_not_accumulated(make):
    """Local steps would be left out, or be of one gradient."""
    trainer = LocoProp(stack("relu"))
    with pytest.raises(ValueError, match="gradient_accumulation_steps=2"):
        trainer.compile(make(gradient_accumulation_steps=2), "mse")
    trainer.compile(make(), "mse")
    with pytest.raises(ValueError, match="must be 1 for `LocoProp`"):
        Trainer(trainer, gradient_accumulation_steps=2)


def test_losses_are_means():
    """Of a sum, targets would move by the size of the batch too far."""
    trainer = LocoProp(stack("relu"))
    for reduction in ("sum", "none"):
        loss = keras.losses.MeanSquaredError(reduction=reduction)
        with pytest.raises(ValueError, match=f"reduction='{reduction}'"):
            trainer.compile("sgd", loss=[loss])
    for loss in ("mse", keras.losses.mean_squared_error, None):
        trainer.compile("sgd", loss)
