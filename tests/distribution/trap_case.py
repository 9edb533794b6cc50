"""What DTensor does wrong, and the engine keeps from models.

    python -m tests.distribution.trap_case TRAP

Prints as JSON what TensorFlow made of it, and what it should have: some of it
crashes, so each needs a process of its own.
"""

import json
import os
import sys

import numpy as np
import tensorflow as tf
from keras import ops
from tensorflow.experimental import dtensor

from benchmarks.sharding.program import make_devices
from keras_moe import distribution
from keras_moe.distribution._placement import layout_of
from keras_moe.distribution._placement import place
from keras_moe.distribution._placement import to_whole
from keras_moe.distribution._stale_reads import VARIABLE

CHOOSE = np.random.default_rng(0)


def setting(batch=2, expert=4):
    mesh = distribution.device_mesh(batch, expert)
    return distribution.engine(mesh)


def compute(on, function, *arguments):
    """Returns what a mesh computes, and what one device does."""
    values = [value for value, _ in arguments]
    placed = [place(v, layout_of(on.mesh, axes)) for v, axes in arguments]
    wrong = to_whole(on.function(function)(*placed))
    return [wrong.tolist(), np.asarray(function(*values)).tolist()]


def stale_read(allowed=None):
    """A variable is read in the step that adds an all-reduce to it."""
    on = setting(8, 1)
    # As if the engine had not.
    if allowed is not None:
        os.environ[VARIABLE] = allowed
    whole = layout_of(on.mesh, ())
    first, second = (
        dtensor.DVariable(place(np.float32(0), whole)) for _ in range(2)
    )

    @tf.function
    def step(x):
        first.assign_add(tf.reduce_sum(x))
        read = first.read_value() + 0.0
        second.assign_add(tf.reduce_sum(x * x))
        return read

    x = place(np.ones(8, "float32"), layout_of(on.mesh, ("batch",)))
    return [[float(to_whole(step(x))) for _ in range(3)], [8.0, 16.0, 24.0]]


def exchange():
    """Two later axes change places, a mesh axis before them."""
    on = setting()
    x = np.arange(8.0**4, dtype="float32").reshape(8, 8, 8, 8)
    moved = layout_of(on.mesh, ("batch", None, "expert", None))
    return compute(
        on,
        lambda x: dtensor.relayout(x, moved) if dtensor_only(x) else x,
        (x, ("batch", "expert", None, None)),
    )


def dtensor_only(x):
    # What one device computes stays as it is.
    return tf.is_symbolic_tensor(x)


def first_entry():
    """An integer takes an entry of an axis before a spread one."""
    x = CHOOSE.normal(size=(3, 8, 2, 4)).astype("float32")
    return compute(
        setting(), lambda x: x[0] * 2.0, (x, (None, "batch", None, None))
    )


def scatter():
    """What is scattered by an index is wanted spread along it."""
    on = setting()
    index = CHOOSE.integers(0, 16, (32, 1)).astype("int32")
    rows = CHOOSE.normal(size=(32, 4)).astype("float32")
    spread = layout_of(on.mesh, ("expert", None))

    def function(index, rows):
        table = tf.scatter_nd(index, rows, (16, 4))
        return dtensor.relayout(table, spread) if dtensor_only(rows) else table

    return compute(
        on, function, (index, ("batch", None)), (rows, ("batch", None))
    )


def random():
    """Devices that share a tensor draw it."""
    on = setting()

    def function(x):
        drawn = tf.random.stateless_uniform((8, 4), [1, 2])
        return x + drawn

    return compute(on, function, (np.zeros((8, 4), "float32"), ("batch", None)))


def transpose():
    """An axis is moved that should lie elsewhere afterwards."""
    on = setting()
    before = layout_of(on.mesh, ("batch", None))
    after = layout_of(on.mesh, ("expert", "batch"))

    def function(x):
        if not dtensor_only(x):
            return tf.transpose(x)
        turned = tf.transpose(dtensor.relayout(x, before))
        return dtensor.relayout(turned, after)

    x = CHOOSE.normal(size=(8, 8)).astype("float32")
    return compute(on, function, (x, ("batch", None)))


def new_axis():
    """A new axis before axes that are not named."""
    x = np.ones((8, 2, 2), "float32")
    return compute(
        setting(), lambda x: x[:, None] * 2.0, (x, ("batch", None, None))
    )


def scalar_choice():
    """A scalar chooses between tensors."""
    x = np.ones((8, 2), "float32")
    return compute(
        setting(),
        lambda x: ops.where(ops.all(x > 0), x, -x),
        (x, ("batch", None)),
    )


if __name__ == "__main__":
    make_devices()
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
