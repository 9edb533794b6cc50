"""Layers that compute on a mesh what they do on one device."""

import keras
import numpy as np
import tensorflow as tf

from benchmarks.sharding.losses import DenseAdam
from keras_moe.distribution._placement import to_whole
from keras_moe.keras_internals import backend_variable
from keras_moe.layers import FeedForward
from keras_moe.layers import RandomFeatureAttention
from keras_moe.layers import Retrieval
from keras_moe.layers import SparseMoE
from keras_moe.layers import T5Attention
from tests.distribution.mesh_model_case import CHOOSE
from tests.distribution.mesh_model_case import DIM
from tests.distribution.mesh_model_case import EXPERTS
from tests.distribution.mesh_model_case import IDS
from tests.distribution.mesh_model_case import LENGTH
from tests.distribution.mesh_model_case import MASK
from tests.distribution.mesh_model_case import ROUTERS
from tests.distribution.mesh_model_case import ROWS
from tests.distribution.mesh_model_case import TOKENS
from tests.distribution.mesh_model_case import engine
from tests.distribution.mesh_model_case import gap


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
        return [to_whole(x) for x in on.function(step)(*on.batch(arrays))]

    return [gap(a, b) for a, b in zip(run(), run(engine(mesh)), strict=True)]


def retrieval(**options):
    """Gap of scores, whether the same is found, and a device's rows."""
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(400, DIM)).astype("float32")
    rows[7] = rows[310]  # equal scores, on two devices
    queries = rng.normal(size=(8, DIM)).astype("float32")
    queries[0] = rows[7]
    queries[3, 0] = np.nan

    def run(on=None):
        found = Retrieval(rows, k=6, capacity=416, **options, name="found")
        model = keras.Sequential([keras.Input([DIM]), found])
        if on is None:
            return [np.asarray(x) for x in model(queries)], None
        on.distribute(model)
        answer = on.function(lambda x: model(x))(on.batch(queries))
        local = tf.experimental.dtensor.unpack(
            backend_variable(found.candidates).read_value()
        )
        return [to_whole(x) for x in answer], list(local[0].shape)

    (scores, names), _ = run()
    (others, those), local = run(engine("2x2x2"))
    sound = np.isfinite(scores)
    same = np.array_equal(names, those) and np.array_equal(
        sound, np.isfinite(others)
    )
    return {
        "gap": float(np.abs(scores[sound] - others[sound]).max()),
        "same": bool(same),
        "broken": int((~sound).sum()),
        "local_shape": local,
    }


def attention(causal, length=24, mesh="2x2x2", exact_below=None):
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
            exact_below=exact_below,
            seed=1,
        )(inputs, inputs, use_causal_mask=causal)
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.Adam(0.01), "mse")
        if on is not None:
            on.distribute(model)
        losses = [model.train_on_batch(tokens, tokens) for _ in range(3)]
        return [losses, *(np.asarray(v) for v in model.variables)]

    return max(map(gap, run(), run(engine(mesh))))


def default_names(mesh):
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
        # On a mesh XLA has no part in it.
        model.compile(DenseAdam(0.01), "mse", jit_compile=False)
        if on is not None:
            on.distribute(model)
        losses = [model.train_on_batch(TOKENS, TOKENS) for _ in range(3)]
        return losses, [layer.kernel.value for layer in made]

    one, _ = run()
    other, kernels = run(engine(mesh))
    return {
        "gap": gap(one, other),
        "local_shapes": [
            list(tf.experimental.dtensor.unpack(k.read_value())[0].shape)
            for k in kernels
        ],
    }
