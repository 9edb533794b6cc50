"""Trainings on a mesh: `fit`, a loop of one's own, and a model's whole life."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from benchmarks.sharding.losses import DenseAdam
from keras_moe import training
from keras_moe import weights
from keras_moe.distribution._placement import to_whole
from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import Experts
from tests.distribution.mesh_model_case import IDS
from tests.distribution.mesh_model_case import LABELS
from tests.distribution.mesh_model_case import ROWS
from tests.distribution.mesh_model_case import UNEQUAL
from tests.distribution.mesh_model_case import data
from tests.distribution.mesh_model_case import engine
from tests.distribution.mesh_model_case import gap
from tests.distribution.mesh_model_case import make_model
from tests.distribution.mesh_model_case import quiet


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


def life(directory, mesh):
    """What a user does besides `fit`: all of it on one model."""
    found = {}
    on = engine(mesh)
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
        model.run_eagerly = True
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
                float(to_whole(step(on.batch(x), on.batch(y))))
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
