"""Models on 8 logical devices: needs a process of its own.

    python -m tests.distribution.mesh_case CASE...

Prints what each case found, as JSON.
"""

import contextlib
import json
import pathlib
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

from benchmarks.sharding.losses import DenseAdam
from benchmarks.sharding.program import make_devices
from keras_moe import distribution
from keras_moe import training
from keras_moe import weights
from keras_moe.distribution._placement import gather
from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import ExpertChoiceRouter
from keras_moe.layers import Experts
from keras_moe.layers import FeedForward
from keras_moe.layers import HashRouter
from keras_moe.layers import RandomFeatureAttention
from keras_moe.layers import SoftRouter
from keras_moe.layers import SparseMoE
from keras_moe.layers import SwitchRouter
from keras_moe.layers import T5Attention
from keras_moe.layers import TopKRouter
from tests.distribution import trap_case

# In evaluation nothing is dropped: one device has as many slots as are needed,
# a mesh as many as could be, of which a smaller share is used.
UNEQUAL = "val_moe/expert_usage"
ROWS, LENGTH, DIM, VOCABULARY, EXPERTS = 16, 8, 8, 16, 8
MESHES = {"2x4": (2, 4, 1), "1x8": (1, 8, 1), "2x2x2": (2, 2, 2)}
ROUTERS = {
    "switch": lambda: SwitchRouter(EXPERTS, group_size=16, jitter_noise=0.1),
    "top_2": lambda: TopKRouter(
        EXPERTS, group_size=16, second_expert_policy="random"
    ),
    "expert_choice": lambda: ExpertChoiceRouter(EXPERTS, group_size=16),
    "hash": lambda: HashRouter(EXPERTS, group_size="sequence", seed=1),
    "soft": lambda: SoftRouter(EXPERTS, group_size=16),
}
CHOOSE = np.random.default_rng(0)
TOKENS = CHOOSE.normal(size=(ROWS, LENGTH, DIM)).astype("float32")
MASK = CHOOSE.random((ROWS, LENGTH)) < 0.8
IDS = CHOOSE.integers(0, VOCABULARY, (4 * ROWS, LENGTH)).astype("int32")
LABELS = (3 * IDS) % VOCABULARY


def engine(mesh):
    return distribution.engine(distribution.device_mesh(*MESHES[mesh]))


def gap(one, other):
    return float(np.max(np.abs(np.asarray(one) - np.asarray(other))))


# === Layers ===


def layer(router, dispatch, mesh, masked=True):
    """Outputs, losses and gradients of a layer in training."""

    def run(on=None):
        keras.utils.set_random_seed(1)
        moe = SparseMoE(
            EXPERTS, 16, router=ROUTERS[router](), dispatch=dispatch
        )
        arrays = [
            TOKENS,
            MASK if masked else None,
            IDS[:ROWS] if router == "hash" else None,
        ]
        moe(TOKENS, token_ids=arrays[2])  # builds it
        inputs = keras.Input((LENGTH, DIM))
        ids = keras.Input((LENGTH,), dtype="int32")
        model = keras.Model([inputs, ids], moe(inputs, token_ids=ids))
        keras.utils.set_random_seed(1)
        for name in ("seed_generator", "policy_seed_generator"):
            if getattr(moe.router, name, None) is not None:
                getattr(moe.router, name).state.assign([7, 0])

        def step(tokens, mask, ids):
            with tf.GradientTape() as tape:
                tape.watch(tokens)
                outputs = moe(tokens, mask=mask, token_ids=ids, training=True)
                loss = tf.add_n([tf.reduce_sum(outputs**2), *moe.losses])
            sources = [tokens, *moe.trainable_variables]
            gradients = tape.gradient(loss, sources)
            return [outputs, loss, *map(tf.convert_to_tensor, gradients)]

        if on is None:
            present = [None if a is None else tf.constant(a) for a in arrays]
            return [np.asarray(x) for x in tf.function(step)(*present)]
        on.distribute(model)
        return [gather(x) for x in on.function(step)(*on.batch(arrays))]

    return [gap(a, b) for a, b in zip(run(), run(engine(mesh)), strict=True)]


def attention(causal, length=24, mesh="2x2x2"):
    """Attention through random features, trained: outputs and state."""
    tokens = CHOOSE.normal(size=(8, length, DIM)).astype("float32")

    def run(on=None):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((length, DIM))
        outputs = RandomFeatureAttention(
            num_heads=2,
            key_dim=4,
            num_random_features=8,
            feature_map="favor+",
            seed=1,
        )(inputs, inputs, use_causal_mask=causal)
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.Adam(0.01), "mse")
        if on is not None:
            on.distribute(model)
        losses = [model.train_on_batch(tokens, tokens) for _ in range(3)]
        return [losses, *(np.asarray(v) for v in model.variables)]

    return max(map(gap, run(), run(engine(mesh))))


def default_names():
    """Losses of layers that have no names of their own, and what lies where."""

    def run(on=None):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((LENGTH, DIM))
        x = inputs
        made = []
        for _ in range(2):
            attention, network = T5Attention(2, 4), FeedForward(16)
            x = keras.layers.add([x, attention(x, x)])
            x = keras.layers.add([x, network(x)])
            made += [attention.query, attention.output_projection]
            made += [network.inner, network.outer]
        model = keras.Model(inputs, x)
        model.compile(DenseAdam(0.01), "mse")
        if on is not None:
            on.distribute(model)
        losses = [model.train_on_batch(TOKENS, TOKENS) for _ in range(3)]
        return losses, [layer.kernel.value for layer in made]

    one, _ = run()
    other, kernels = run(engine("2x2x2"))
    return {
        "gap": gap(one, other),
        "local_shapes": [
            list(tf.experimental.dtensor.unpack(k.read_value())[0].shape)
            for k in kernels
        ],
    }


# === Fit ===


def make_model(compiled=True, dtype=None, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, DIM)(inputs)
    x = keras.layers.add([x, keras.layers.Dense(DIM, "relu")(x)])
    moe = SparseMoE(EXPERTS, 16, ROUTERS["switch"](), dtype=dtype, name="moe")
    x = keras.layers.add([x, moe(x)])
    head = keras.layers.Dense(VOCABULARY, dtype=dtype)
    model = keras.Model(inputs, keras.layers.Activation("linear")(head(x)))
    if compiled:
        steps = options.pop("steps_per_execution", 1)
        model.compile(
            DenseAdam(0.01, **options),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            weighted_metrics=["sparse_categorical_crossentropy"],
            steps_per_execution=steps,
        )
    return model


def data(rows=ROWS):
    weights = np.linspace(0.5, 1.5, IDS.size).astype("float32")
    weights = weights.reshape(IDS.shape)
    whole = tf.data.Dataset.from_tensor_slices((IDS, LABELS, weights))
    return whole.batch(rows, drop_remainder=True)


def fit(mesh, epochs=2, **options):
    """Histories of `fit`, with validation."""

    def run(on=None):
        model = make_model(**options)
        if on is not None:
            on.distribute(model)
        with quiet():
            return model.fit(
                data(),
                validation_data=data(),
                epochs=epochs,
                shuffle=False,
                verbose=0,
            ).history

    one, other = run(), run(engine(mesh))
    return {
        name: gap(one[name], other[name]) for name in one if name != UNEQUAL
    }


def life(directory):
    """What a user does besides `fit`: all of it on one model."""
    found = {}
    on = engine("2x4")
    model = make_model()
    before = [np.array(w) for w in model.get_weights()]
    on.distribute(model)
    found["as_before"] = max(map(gap, before, model.get_weights()))
    kernels = [
        bank.kernel.value
        for part in flatten_layers(model)
        if isinstance(part, Experts)
        for bank in part.banks
    ]
    found["local_shapes"] = [
        list(tf.experimental.dtensor.unpack(k.read_value())[0].shape)
        for k in kernels
    ]
    momenta = [
        v.value
        for v in model.optimizer.variables
        if "experts" in v.path and "wi" in v.path
    ]
    found["local_slots"] = [
        list(tf.experimental.dtensor.unpack(m.read_value())[0].shape)
        for m in momenta
    ]
    with quiet():
        model.fit(data(), verbose=0)
        evaluated = on.evaluate(model, data())
        # Not divisible by the devices.
        predicted = model.predict(IDS[:ROWS], verbose=0)
        on_batch = model.predict_on_batch(IDS[: ROWS * 2])
        found["rows_of_predictions"] = len(predicted)
        found["predict_on_batch"] = gap(on_batch[:ROWS], predicted)
        path = pathlib.Path(directory) / "mesh.h5"
        on.checkpoint(model).save(path, training.Position(step=4))
        values = {
            name: np.array(np.asarray(v))
            for name, v in weights.named_state(model).items()
        }
        # On one device, on another mesh, and back again.
        for other in (None, "1x8", "2x2x2"):
            again = make_model()
            training.build_state(again, next(iter(data())))
            if other is not None:
                engine(other).distribute(again)
            position = training.load_into(path, again)
            found[f"restored_on_{other}"] = max(
                gap(values[name], v)
                for name, v in weights.named_state(again).items()
            )
            found["step"] = position.step
        on.gather(model)
        found["plain"] = not any(
            isinstance(v.value, tf.experimental.dtensor.DVariable)
            for v in weights.named_state(model).values()
        )
        found["gathered"] = gap(model.predict(IDS[:ROWS], verbose=0), predicted)
        alone = model.evaluate(data(), verbose=0, return_dict=True)
        found["evaluated"] = gap(
            *(
                [
                    logs[name]
                    for name in sorted(alone)
                    if "expert_usage" not in name
                ]
                for logs in (alone, evaluated)
            )
        )
        model.save(f"{directory}/model.keras")
        loaded = keras.saving.load_model(f"{directory}/model.keras")
        found["loaded"] = gap(loaded.predict(IDS[:ROWS], verbose=0), predicted)
        model.export(f"{directory}/model", verbose=False)
        served = tf.saved_model.load(f"{directory}/model")
        found["served"] = gap(served.serve(IDS[:ROWS]), predicted)
        # And it can be trained on.
        model.fit(data(), verbose=0)
    return found


def own_loop():
    """A loop of one's own, with an optimizer that nothing was compiled with."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def run(on=None):
        model, optimizer = make_model(compiled=False), DenseAdam(0.01)
        optimizer.build(model.trainable_variables)
        if on is not None:
            on.distribute(model, optimizer)
            step = on.train_step(model, optimizer, loss)
            losses = [
                float(gather(step(on.batch(x), on.batch(y))))
                for x, y, _ in data()
            ]
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = on.checkpoint(model, optimizer)
                checkpoint.save(f"{folder}/c.h5")
                slots = [np.array(np.asarray(v)) for v in optimizer.variables]
                step(on.batch(IDS[:ROWS]), on.batch(LABELS[:ROWS]))
                checkpoint.restore(f"{folder}/c.h5")
                assert max(map(gap, slots, optimizer.variables)) == 0.0
            evaluated = on.evaluate(model, IDS[:ROWS], LABELS[:ROWS], loss)
            on.gather(model, optimizer)
        else:
            losses = []
            for x, y, _ in data():
                with tf.GradientTape() as tape:
                    value = loss(y, model(x, training=True))
                    value = tf.add_n([value, *model.losses])
                weights = model.trainable_variables
                optimizer.apply(tape.gradient(value, weights), weights)
                losses.append(float(value))
            outputs = model(IDS[:ROWS], training=False)
            value = tf.add_n([loss(LABELS[:ROWS], outputs), *model.losses])
            evaluated = {"loss": float(value)}
        return losses, evaluated["loss"]

    return max(map(gap, run(), run(engine("1x8"))))


# === Refusals ===


def refusals():
    """The messages of what cannot be done."""
    found = {}
    on = engine("2x4")

    def refused(name, function, *arguments, **options):
        try:
            function(*arguments, **options)
        except (ValueError, RuntimeError) as error:
            found[name] = str(error)

    refused("mesh", distribution.device_mesh, batch=3, expert=3)
    refused("devices", distribution.device_mesh, 2, devices=["cpu:0"])
    refused("rows", on.batch, np.zeros((3, 2)))
    model = make_model()
    refused("optimizer", on.train_step, make_model(compiled=False))
    layouts = keras.distribution.LayoutMap(on.device_mesh)
    unmatched = distribution.engine(layouts)
    refused("unmatched", unmatched.distribute, model)
    layouts[".*kernel"] = ("expert", None, None)
    refused("rank", distribution.engine(layouts).distribute, model)
    twice = keras.distribution.LayoutMap(on.device_mesh)
    twice[".*wi/kernel"] = ("expert", None, None)
    twice[".*experts/.*"] = ("expert", None, None)
    refused("twice", distribution.engine(twice).distribute, model)
    found["left_alone"] = all(
        not isinstance(v.value, tf.experimental.dtensor.DVariable)
        for v in model.variables
    )
    inputs = keras.Input((LENGTH, DIM))
    odd = keras.Model(inputs, SparseMoE(6, 16, SwitchRouter(6))(inputs))
    refused("indivisible", on.distribute, odd)
    on.distribute(model)
    refused("groups", model.predict, IDS[:2], verbose=0)
    attention = RandomFeatureAttention(num_heads=2, key_dim=4)
    model = keras.Model(inputs, attention(inputs, inputs))
    model.compile("adam", "mse")
    on.distribute(model)
    refused("dense", model.train_on_batch, TOKENS, TOKENS)
    model = make_model()
    model.run_eagerly = True
    refused("eager", on.distribute, model)
    return found


def stale_read():
    """What is read in the step that adds to it, and what should have been."""
    return trap_case.stale_read()


@contextlib.contextmanager
def quiet():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def main(names):
    make_devices()
    found = {}
    for name in names:
        with tempfile.TemporaryDirectory() as directory:
            found[name] = eval(name, {**globals(), "directory": directory})
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
