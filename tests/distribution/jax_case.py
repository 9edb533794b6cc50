"""On Keras's JAX backend: `python -m tests.distribution.jax_case FOLDER`.

It has eight devices, as the test sets them, and says in the end what it found.
"""

import json
import pathlib
import re
import sys

import jax
import keras
import numpy as np

from keras_moe import distribution
from keras_moe import ops
from keras_moe import training
from keras_moe import weights
from keras_moe.layers import ExpertChoiceRouter
from keras_moe.layers import RandomFeatureAttention
from keras_moe.layers import SequentialAttention
from keras_moe.layers import SparseMoE
from keras_moe.layers import SwitchRouter
from keras_moe.layers import TopKRouter

VOCABULARY, LENGTH, DIM, EXPERTS, ROWS, STEPS = 32, 16, 16, 8, 16, 10
ROUTERS = {
    "switch": SwitchRouter,
    "top_2": TopKRouter,
    "expert_choice": ExpertChoiceRouter,
}
# Devices along "batch" and "expert".
MESHES = {"2x4": (2, 4), "1x8": (1, 8)}


def make_model(router):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, DIM)(inputs)
    x = x + keras.layers.Dense(DIM, activation="relu")(x)
    # Eight groups a batch, one for each device.
    router = ROUTERS[router](num_experts=EXPERTS, group_size=2 * LENGTH)
    x = x + SparseMoE(EXPERTS, 32, router=router, name="sparse_moe")(x)
    model = keras.Model(inputs, keras.layers.Dense(VOCABULARY)(x))
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def batches():
    rng = np.random.default_rng(0)
    shape = (STEPS, ROWS, LENGTH)
    x = rng.integers(0, VOCABULARY, shape).astype("int32")
    return x, (x * 3 + 1) % VOCABULARY


def make_engine(mesh):
    batch, expert = MESHES[mesh]
    device_mesh = distribution.device_mesh(batch=batch, expert=expert)
    return distribution.engine(device_mesh)


def train(model):
    return [
        model.train_on_batch(x, y, return_dict=True)["loss"]
        for x, y in zip(*batches(), strict=True)
    ]


def arrays_of(model):
    variables = weights.named_state(model)
    return {name: np.asarray(v.value) for name, v in variables.items()}


def bytes_of_experts(model):
    """Returns for each device its part of the experts' kernels and slots."""
    parts = dict.fromkeys(jax.devices(), 0)
    whole = 0
    for name, variable in weights.named_state(model).items():
        if "/experts/" in name and "/kernel" in name:
            whole += variable.value.nbytes
            for shard in variable.value.addressable_shards:
                parts[shard.device] += shard.data.nbytes
    return [part / whole for part in parts.values()]


def num_all_to_alls(engine, model):
    """Counts them in what XLA makes of one layer's forward pass."""
    layer = model.get_layer("sparse_moe")

    def forward(trainable, others, x):
        x = ops.constrain(x, engine.rows_axis, None, None)
        outputs, _ = layer.stateless_call(trainable, others, x, training=False)
        return ops.constrain(outputs, engine.rows_axis, None, None)

    compiled = jax.jit(forward).lower(
        [v.value for v in layer.trainable_variables],
        [v.value for v in layer.non_trainable_variables],
        np.ones((ROWS, LENGTH, DIM), "float32"),
    )
    program = compiled.compile().as_text()
    return len(re.findall(r" all-to-all(?:-start)?\(", program))


def evaluated(model):
    x, y = (array[0] for array in batches())
    return model.evaluate(x, y, verbose=0, return_dict=True)["loss"]


def fitted(model):
    """Losses of Keras's own loops."""
    x, y = (np.concatenate(array) for array in batches())
    history = model.fit(
        x, y, ROWS, validation_data=(x, y), shuffle=False, verbose=0
    ).history
    return [history["loss"][0], history["val_loss"][0]]


def alone(router):
    """Trains on one device; returns what came of it."""
    model = make_model(router)
    return {
        "losses": train(model),
        "fitted": fitted(model),
        "evaluated": evaluated(model),
    }


def on_mesh(mesh, router, path):
    """As `alone`, on a mesh, from which the model is gathered in the end."""
    engine = make_engine(mesh)
    model = make_model(router)
    engine.distribute(model)
    said = {"losses": train(model), "parts": bytes_of_experts(model)}
    said["stored"] = stored_and_restored(engine, model, path)
    said["all_to_alls"] = num_all_to_alls(engine, model)
    said["fitted"] = fitted(model)
    before = arrays_of(model)
    engine.gather(model)
    after = arrays_of(model)
    values = [v.value for v in weights.named_state(model).values()]
    return {
        **said,
        "gathered": all(
            np.array_equal(before[name], after[name]) for name in before
        ),
        "devices": max(len(value.devices()) for value in values),
        "evaluated": evaluated(model),
    }


def reported():
    """What a fit logs where routers drop most tokens, and what they know."""
    router = SwitchRouter(capacity_factor=0.1, min_expert_capacity=1)
    inputs = keras.Input((LENGTH, DIM))
    moe = SparseMoE(EXPERTS, 8, router=router)
    x = moe(inputs)
    attention = RandomFeatureAttention(2, 4, 8, exact_below=None)
    model = keras.Model(inputs, attention(x, x))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(4, LENGTH, DIM))
    history = model.fit(x, x, validation_data=(x, x), verbose=0).history
    moe(x, training=True)
    left_behind = router.trackers["fraction_tokens_left_behind"].result()
    return {
        "logs": sorted(history),
        "updates": int(attention.features.num_updates),
        "left_behind": float(left_behind),
    }


def selected():
    """Picks features in a training: state that a call moves, not an update."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(320, 6)).astype("float32")
    layer = SequentialAttention(2, total_steps=100)
    model = keras.Sequential([layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x, 3 * x[:, 2] - x[:, 4], batch_size=32, epochs=10, verbose=0)
    return {"picked": sorted(layer.selected()), "step": int(layer.step.value)}


def stored_and_restored(engine, model, path):
    """Saves a trained model, changes all of it, restores it."""
    saved, parts = arrays_of(model), bytes_of_experts(model)
    checkpoint = engine.checkpoint(model)
    checkpoint.save(path, training.Position(step=STEPS))
    train(model)
    changed = arrays_of(model)
    position = checkpoint.restore(path)
    restored = arrays_of(model)
    return {
        "changed": any(not np.array_equal(changed[n], saved[n]) for n in saved),
        "restored": all(np.array_equal(restored[n], saved[n]) for n in saved),
        "step": position.step,
        "parts_stay": bytes_of_experts(model) == parts,
    }


def main(folder):
    x = keras.ops.ones((4, 3))
    said = {
        "devices": len(jax.devices()),
        "identity": ops.constrain(x, "batch", "expert") is x,
        "alone": {router: alone(router) for router in ROUTERS},
        "on_mesh": {
            f"{router} {mesh}": on_mesh(
                mesh, router, folder / f"{router} {mesh}"
            )
            for router in ROUTERS
            for mesh in MESHES
        },
        "reported": reported(),
        "selected": selected(),
        "identity_after": ops.constrain(x, "batch", "expert") is x,
    }
    print("REPORT", json.dumps(said, default=float), flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
