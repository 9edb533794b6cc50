"""A weight on its way from Beam into a student's update."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import data
from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.training import Trainer
from tests.components.data import pool_case as case
from tests.components.data.subset_selector_test import run

pytestmark = pytest.mark.tfx

SPEC = {
    "x": tf.io.FixedLenFeature([2], tf.float32),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "example_weight": tf.io.FixedLenFeature([], tf.float32),
}


def lessons(made):
    """What a `run_fn` does: reads, parses, and takes the weights out."""
    files = tf.data.Dataset.list_files(f"{made.uri}/Split-train/*", shuffle=0)
    records = tf.data.TFRecordDataset(files, "GZIP").batch(20)

    def parse(batch):
        inputs = tf.io.parse_example(batch, SPEC)
        return inputs, inputs.pop("label")

    weighted = data.with_example_weights(records.map(parse))
    return weighted.map(lambda inputs, y, w: (inputs["x"], y, w))


def student():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input([2]), keras.layers.Dense(3)])


def test_a_student_learns_by_the_weights_of_the_selection(tmp_path):
    keras.utils.set_random_seed(1)
    teacher = keras.Sequential([keras.Input([2]), keras.layers.Dense(3)])
    model = case.save(case.KERNELS[0], tmp_path / "model")
    rows = [case.example(row) for row in range(60)]
    pool = case.write(tmp_path / "pool", {"train": rows})
    made = run(data.ImportanceSelector("entropy"), [model], pool, tmp_path)
    indices, weights = data.ImportanceSelector("entropy").select(
        lambda rows: case.answers(case.KERNELS[0], rows),
        np.arange(60),
        budget=20,
        seed=3,
        round=1,
        keys=case.NAMES,
    )
    assert weights.std() > 0.1
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained = []
    for given in (
        lessons(made),
        tf.data.Dataset.from_tensors(
            (case.X[indices], case.LABELS[indices], weights)
        ),
    ):
        learner = student()
        distiller = SparseToDenseDistiller(teacher, learner)
        distiller.compile(keras.optimizers.SGD(0.5), loss)
        Trainer(distiller).fit(given, verbose=0)
        trained.append(learner.get_weights())
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
