"""Models on 8 logical devices: needs a process of its own.

    python -m tests.distribution.mesh_case [--unoptimized] CASE...

Prints what each case found, as JSON. Graphs that run a few times take longer to
optimize than to run: with `--unoptimized` TensorFlow leaves them as they are.
"""

import json
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

from benchmarks.sharding.program import make_devices
from keras_moe import distribution
from keras_moe.distillation import Distiller
from keras_moe.distillation import TokenDistillation
from keras_moe.layers import RandomFeatureAttention
from keras_moe.layers import SparseMoE
from keras_moe.layers import SwitchRouter
from keras_moe.training import LocoProp
from tests.distribution import trap_case
from tests.distribution.mesh_layers_case import attention
from tests.distribution.mesh_layers_case import default_names
from tests.distribution.mesh_layers_case import layer
from tests.distribution.mesh_layers_case import retrieval
from tests.distribution.mesh_model_case import DIM
from tests.distribution.mesh_model_case import IDS
from tests.distribution.mesh_model_case import LENGTH
from tests.distribution.mesh_model_case import TOKENS
from tests.distribution.mesh_model_case import engine
from tests.distribution.mesh_model_case import make_model
from tests.distribution.mesh_training_case import fit
from tests.distribution.mesh_training_case import life
from tests.distribution.mesh_training_case import own_loop


def own_step():
    """A model that makes local steps, which an engine would leave out."""
    stack = keras.Sequential([keras.Input((DIM,)), keras.layers.Dense(2)])
    trainer = LocoProp(stack)
    trainer.compile("sgd", "mse")
    return trainer


def distiller(perturbation=None):
    teacher, student = (
        keras.Sequential([keras.Input((DIM,)), keras.layers.Dense(2)])
        for _ in range(2)
    )
    trainer = Distiller(
        teacher, student, TokenDistillation(), input_perturbation=perturbation
    )
    trainer.compile("sgd", "sparse_categorical_crossentropy")
    return trainer


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
    refused("own_step", on.train_step, own_step())
    refused("perturbed", on.train_step, distiller(keras.layers.Dropout(0.5)))
    refused("plain_distiller", on.train_step, distiller())
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


CASES = {
    case.__name__: case
    for case in (
        layer,
        attention,
        default_names,
        fit,
        life,
        own_loop,
        refusals,
        retrieval,
        stale_read,
    )
}


UNOPTIMIZED = "--unoptimized"


def main(names):
    make_devices()
    if UNOPTIMIZED in names:
        names.remove(UNOPTIMIZED)
        tf.config.optimizer.set_experimental_options(
            {"disable_meta_optimizer": True}
        )
    found = {}
    for name in names:
        with tempfile.TemporaryDirectory() as directory:
            found[name] = eval(name, {**CASES, "directory": directory})
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
