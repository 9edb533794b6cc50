"""Cases that need several devices, by name.

`python -m tests.training.replicas_case NAME ...`: logical devices are made
before TensorFlow starts, hence once a process.
"""

import functools
import sys
import tempfile
import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.distribution._strategy import strategy
from keras_moe.layers import RandomFeatureAttention
from keras_moe.layers import SparseMoE
from keras_moe.layers import SwitchRouter
from keras_moe.losses import token_crossentropy
from keras_moe.losses._replica_share import shared_by_replicas
from keras_moe.models import SwitchTransformer
from keras_moe.training import EarlyExitTrainer
from keras_moe.training._trainer import Trainer
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from tests.training.checkpoints import topology_case

LENGTH, DIM, VOCABULARY = 6, 5, 9
RNG = np.random.default_rng(3)
TOKENS = RNG.integers(1, VOCABULARY, (32, LENGTH))
# As many paddings in the part of each replica.
TOKENS[::4, -2:] = 0
STATES = RNG.normal(size=(32, LENGTH, DIM)).astype("float32")


@functools.cache
def two_replicas():
    return strategy("mirrored", devices=["CPU:0", "CPU:1"])


def token_model(optimizer, loss=token_crossentropy, sparse=True, **options):
    """From tokens to tokens, with auxiliary losses if it is sparse."""
    keras.utils.set_random_seed(0)
    router = SwitchRouter(
        group_size="sequence",
        jitter_noise=0.0,
        load_balancing_loss_weight=0.5,
        router_z_loss_weight=0.5,
        kernel_initializer="glorot_normal",
    )
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, DIM)(inputs)
    if sparse:
        x = x + SparseMoE(4, 8, router=router, name="moe")(x)
    outputs = keras.layers.Dense(VOCABULARY)(x)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer, loss, **options)
    return model


def batches():
    return tf.data.Dataset.from_tensor_slices((TOKENS, TOKENS)).batch(8)


def weights_of(model):
    return [np.asarray(weight) for weight in model.weights]


def assert_same(received, expected, **tolerance):
    for mine, theirs in zip(received, expected, strict=True):
        np.testing.assert_allclose(
            mine, theirs, **(tolerance or {"rtol": 1e-4, "atol": 1e-6})
        )


def assert_same_history(received, expected):
    assert set(received) == set(expected)
    for name, values in expected.items():
        # Over slots, whose number is a replica's own.
        if not name.endswith(("expert_usage", "router_confidence")):
            np.testing.assert_allclose(
                received[name], values, rtol=1e-4, err_msg=name
            )


def keras_fit(scope, loss, **options):
    with scope.scope():
        model = token_model(keras.optimizers.SGD(0.5), loss, **options)
    history = model.fit(batches(), epochs=1, verbose=0).history
    return history, weights_of(model)


def crossentropy(sparse=False):
    """Reported loss and updates of Keras's `fit` are those of one device."""
    mirrored, alone = two_replicas(), strategy()
    # On one device it is not even multiplied by 1.
    cost = keras.ops.ones(())
    assert shared_by_replicas(cost) is cost

    def closure(labels, logits):
        return token_crossentropy(labels, logits, pad_id=0)

    def fit_alone(loss, **options):
        # A few steps take less time than their graph.
        return keras_fit(alone, loss, run_eagerly=True, **options)

    for loss in (closure, token_crossentropy):
        options = {"sparse": sparse}
        history, weights = keras_fit(
            mirrored, loss, jit_compile=False, **options
        )
        expected, learnt = fit_alone(loss, **options)
        assert_same_history(history, expected)
        assert_same(weights, learnt)
    # More than the auxiliary losses was learnt, and more than the others.
    other, _ = fit_alone(
        lambda y, z: 0.5 * token_crossentropy(y, z), sparse=sparse
    )
    assert abs(other["loss"][0] - expected["loss"][0]) > 0.1


crossentropy_of_a_mixture = functools.partial(crossentropy, sparse=True)


def own_loop():
    """`Trainer` on two replicas learns what Keras's `fit` does on one."""
    mirrored, alone = two_replicas(), strategy()

    def made(scope, **optimizer):
        with scope.scope():
            return token_model(
                keras.optimizers.Adam(0.01, **optimizer), metrics=["accuracy"]
            )

    model = made(alone)
    expected = model.fit(
        batches(), epochs=2, verbose=0, validation_data=batches()
    ).history
    learnt = weights_of(model)
    model = made(mirrored)
    history = Trainer(model, steps_per_execution=3).fit(
        batches(), epochs=2, verbose=0, validation_data=batches()
    )
    assert_same_history(history.history, expected)
    assert_same(weights_of(model), learnt)
    # An update of several batches.
    model = made(alone, gradient_accumulation_steps=2)
    model.fit(batches(), epochs=1, verbose=0)
    learnt = weights_of(model)
    model = made(mirrored)
    Trainer(model, gradient_accumulation_steps=2, steps_per_execution=3).fit(
        batches(), verbose=0
    )
    assert_same(weights_of(model), learnt)
    assert int(np.asarray(model.optimizer.iterations)) == 2


def refused():
    """What fails under several replicas is refused by name."""
    mirrored = two_replicas()
    cases = [
        (
            {"optimizer": "sgd", "jit_compile": True},
            "`jit_compile` must be False or 'auto' under several replicas",
        ),
        (
            {"optimizer": {"gradient_accumulation_steps": 2}},
            "`gradient_accumulation_steps` must be given to `Trainer`",
        ),
        (
            {"optimizer": "sgd", "steps_per_execution": 2},
            "`steps_per_execution` must be given to `Trainer`",
        ),
    ]
    for options, message in cases:
        with mirrored.scope():
            if isinstance(options["optimizer"], dict):
                options["optimizer"] = keras.optimizers.SGD(
                    **options["optimizer"]
                )
            model = token_model(**options, sparse=False)
        try:
            Trainer(model)
        except ValueError as error:
            assert message in str(error), error
        else:
            raise AssertionError(options)
    with mirrored.scope():
        model = token_model("sgd", sparse=False)
    model.compile("sgd", token_crossentropy)
    try:
        Trainer(model)
    except ValueError as error:
        assert "under one strategy's scope" in str(error)
    else:
        raise AssertionError("another strategy")


def custom_train_steps():
    """Models with losses and steps of their own."""
    mirrored, alone = two_replicas(), strategy()
    source = np.array([[5, 6, 7, 1], [8, 9, 1, 0], [3, 4, 1, 0], [5, 1, 0, 0]])
    target = np.array([[4, 5, 6, 1], [7, 1, 0, 0], [4, 1, 0, 0], [5, 6, 7, 1]])
    inputs = {
        "encoder_token_ids": source,
        "decoder_token_ids": np.pad(target[:, :-1], [(0, 0), (1, 0)]),
    }
    data = tf.data.Dataset.from_tensor_slices((inputs, target)).batch(4)
    for kind in (EarlyExitTrainer, SparseToDenseDistiller):
        results = []
        for scope in (mirrored, alone):
            with scope.scope():
                keras.utils.set_random_seed(0)
                teacher, student = (
                    SwitchTransformer.from_preset(
                        "switch_tiny", num_experts=experts, dropout_rate=0.0
                    )
                    for experts in (4, 0)
                )
                models = (
                    (student,)
                    if kind is EarlyExitTrainer
                    else (teacher, student)
                )
                trainer = kind(*models)
                trainer.compile(keras.optimizers.SGD(0.1), token_crossentropy)
            if scope is mirrored:
                history = Trainer(trainer).fit(data, epochs=2, verbose=0)
            else:
                history = trainer.fit(data, epochs=2, verbose=0)
            results.append((history.history, weights_of(student)))
        assert_same_history(results[0][0], results[1][0])
        assert_same(results[0][1], results[1][1], atol=1e-5)


def faults():
    """A bad part of one replica; and a resumption within an epoch."""
    mirrored = two_replicas()

    targets = np.roll(STATES, 1, -1)

    def train(directory, rows, epochs, callbacks=None, bad=None):
        with mirrored.scope():
            keras.utils.set_random_seed(1)
            inputs = keras.Input((LENGTH, DIM))
            x_ = keras.layers.Dropout(0.3)(inputs)
            outputs = SparseMoE(4, 8, name="moe")(x_)
            model = keras.Model(inputs, outputs)
            model.compile("adam", "mse", metrics=["mae"])
        x = STATES.copy()
        if bad is not None:
            x[bad] = np.inf
        data = tf.data.Dataset.from_tensor_slices((x[rows], targets[rows]))
        data = data.batch(4)
        trainer = Trainer(model, Checkpoints(directory, every=3))
        history = trainer.fit(
            data, epochs=epochs, verbose=0, callbacks=callbacks
        )
        return history.history, weights_of(model), trainer.position

    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 4:
                raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as directory:
        rows = np.arange(32)
        whole = train(f"{directory}/whole", rows, 2)
        try:
            train(f"{directory}/part", rows, 2, [Fail()])
        except KeyboardInterrupt:
            pass
        history, weights, position = train(f"{directory}/part", rows, 2)
        assert position == whole[2]
        # The metrics of the epoch that was begun again, too.
        assert history == whole[0]
        for mine, theirs in zip(weights, whole[1], strict=True):
            np.testing.assert_array_equal(mine, theirs)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            history, weights, position = train(
                f"{directory}/bad",
                rows,
                1,
                bad=22,  # in batch 5, its second replica
            )
        assert position.skipped == ((0, 5),)
        assert any("epoch 0, batch 5" in str(each.message) for each in said)
        assert np.isfinite(history["loss"]).all()
        # As if it had never been in the data.
        kept = np.delete(np.arange(32), np.s_[20:24])
        _, expected, _ = train(f"{directory}/kept", kept, 1)
        for mine, theirs in zip(weights, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def topology():
    """What is saved on one device is restored on 2, and back."""
    with tempfile.TemporaryDirectory() as directory:
        topology_case.check(directory, 2)


def topology_of_many():
    """The same by way of 8 replicas, which take long to make."""
    with tempfile.TemporaryDirectory() as directory:
        topology_case.check(directory, 8, 2, 3)


def keras_fit_of_layers():
    """Keras's own `fit`, with router metrics and random features."""
    results = []
    for scope in (two_replicas(), strategy()):
        with scope.scope():
            keras.utils.set_random_seed(1)
            router = SwitchRouter(
                group_size="sequence",
                jitter_noise=0.0,
                kernel_initializer="glorot_normal",
            )
            inputs = keras.Input((LENGTH, DIM))
            attention = RandomFeatureAttention(
                1, DIM, 8, exact_below=None, seed=7, name="attention"
            )
            x = inputs + attention(inputs, inputs)
            outputs = x + SparseMoE(4, 8, router=router, name="moe")(x)
            model = keras.Model(inputs, outputs)
            model.compile(keras.optimizers.SGD(0.1), "mse")
        history = model.fit(
            STATES,
            np.roll(STATES, 1, -1),
            batch_size=8,
            epochs=2,
            shuffle=False,
            verbose=0,
        ).history
        results.append((history, weights_of(model)))
    assert_same_history(results[0][0], results[1][0])
    assert_same(results[0][1], results[1][1], rtol=1e-3, atol=1e-4)
    assert results[0][0]["loss"][1] < results[0][0]["loss"][0]
    assert results[0][0]["moe/router_entropy"][0] > 0.1


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 8
    )
    for case in sys.argv[1:]:
        globals()[case]()
