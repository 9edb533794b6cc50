"""One of two with one mesh: `python -m tests.distribution.clients_case DIR`.

`TF_CONFIG` says which of the two; the argument is a folder that both have.
"""

import json
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf
from tensorflow.experimental import dtensor

from keras_moe import distribution
from keras_moe import training
from keras_moe import weights
from keras_moe.distribution._processes import list_devices
from keras_moe.keras_internals import backend_variable
from keras_moe.layers import SparseMoE
from keras_moe.layers import SwitchRouter

DIM, LENGTH, ROWS, STEPS, DEVICES_EACH = 5, 6, 8, 4, 2


def make_model(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((LENGTH, DIM))
    x = keras.layers.Dense(DIM, activation="tanh")(inputs)
    router = SwitchRouter(group_size="sequence")
    x = x + SparseMoE(4, 8, router=router, name="moe")(x)
    model = keras.Model(inputs, x)
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


def batches():
    x = np.random.default_rng(3).normal(size=(STEPS * ROWS, LENGTH, DIM))
    x = x.astype("float32")
    examples = tf.data.Dataset.from_tensor_slices((x, np.roll(x, 1, -1)))
    return examples.batch(ROWS)


def train(model):
    """Returns the loss of each step."""
    losses = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.reset_metrics()

        def on_train_batch_end(self, batch, logs=None):
            losses.append(float(logs["loss"]))

    model.fit(batches(), epochs=2, verbose=0, callbacks=[Record()])
    return losses


def arrays_of(model):
    variables = weights.named_state(model)
    return {name: np.array(v.numpy()) for name, v in variables.items()}


def kernels_of(model):
    return [bank.kernel for bank in model.get_layer("moe").experts.banks]


def part_here(variable):
    """Returns which part of a variable's bytes lies in this process."""
    # In one process several devices may hold the same part.
    parts = dtensor.unpack(backend_variable(variable).read_value())
    distinct = {part.numpy().tobytes() for part in parts}
    return sum(map(len, distinct)) / variable.numpy().nbytes


def run(device_mesh, folder):
    """Trains on a mesh and stores; returns what can be said in JSON."""
    client = dtensor.client_id()
    engine = distribution.engine(device_mesh)
    model = make_model()
    engine.distribute(model)
    losses = train(model)
    parts = [part_here(kernel) for kernel in kernels_of(model)]
    trained = arrays_of(model)
    # A folder for each: who writes is seen by what is in them.
    own = folder / f"{client}"
    own.mkdir(parents=True)
    checkpoint = engine.checkpoint(model)
    checkpoint.save(own / "checkpoint", training.Position(step=8))
    for kernel in kernels_of(model):
        kernel.assign(np.zeros(kernel.shape))
    position = checkpoint.restore(folder / "0" / "checkpoint")
    restored = arrays_of(model)
    evaluated = model.evaluate(batches(), verbose=0, return_dict=True)
    engine.gather(model)
    gathered = [backend_variable(kernel) for kernel in kernels_of(model)]
    np.savez(folder / f"weights_{client}.npz", *model.get_weights())
    return {
        "losses": losses,
        "parts": parts,
        "written": sorted(path.name for path in own.iterdir()),
        "step": position.step,
        "restored": all(
            np.array_equal(restored[name], value)
            for name, value in trained.items()
        ),
        "evaluated": evaluated,
        "plain": not any(map(dtensor.is_dtensor, gathered)),
    }


def main(folder):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * DEVICES_EACH
    )
    distribution.initialize()
    first, second = list_devices()
    experts = distribution.device_mesh(expert=4)
    said = {"experts": run(experts, folder / "experts")}
    # Experts lie along an axis whose devices are of different processes.
    crossed = [first[0], second[0], first[1], second[1]]
    both = distribution.device_mesh(batch=2, expert=2, devices=crossed)
    said["both"] = run(both, folder / "both")
    engine = distribution.engine(both)
    try:
        engine.distribute(make_model(seed=dtensor.client_id()))
    except ValueError as error:
        said["different"] = str(error)
    print("REPORT", json.dumps(said), flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
