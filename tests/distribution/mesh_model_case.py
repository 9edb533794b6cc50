"""The model and the data of all cases on a mesh, and how they compare."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from benchmarks.sharding.losses import DenseAdam
from keras_moe import distribution
from keras_moe.layers import ExpertChoiceRouter
from keras_moe.layers import HashRouter
from keras_moe.layers import SoftRouter
from keras_moe.layers import SparseMoE
from keras_moe.layers import SwitchRouter
from keras_moe.layers import TopKRouter

# In evaluation nothing is dropped: one device has as many slots as are needed,
# a mesh as many as could be, of which a smaller share is used.
UNEQUAL = "val_moe/expert_usage"
ROWS, LENGTH, DIM, VOCABULARY, EXPERTS = 16, 8, 8, 16, 8
MESHES = {
    # Of fewer devices than there are: quick.
    "2x2": (2, 2, 1),
    "2x1x2": (2, 1, 2),
    "2x4": (2, 4, 1),
    "1x8": (1, 8, 1),
    "2x2x2": (2, 2, 2),
}
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
            # On a mesh XLA has no part in it.
            jit_compile=False,
        )
    return model


def data(rows=ROWS):
    weights = np.linspace(0.5, 1.5, IDS.size).astype("float32")
    weights = weights.reshape(IDS.shape)
    whole = tf.data.Dataset.from_tensor_slices((IDS, LABELS, weights))
    return whole.batch(rows, drop_remainder=True)


@contextlib.contextmanager
def quiet():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
