"""A pool of examples, and models that answer them, as artifacts."""

import pathlib

import numpy as np
import tensorflow as tf
from tfx.dsl.components.base import base_beam_executor
from tfx.types import standard_artifacts

from keras_moe.orchestration import write_records
from tests.components.artifacts_of import artifact

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 2)).astype("float32")
LABELS = (X @ [[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]).argmax(axis=1)
NAMES = [f"row {number}" for number in range(60)]
KERNELS = RANDOM.normal(size=(2, 2, 3)).astype("float32")
MANY_WORKERS = base_beam_executor.BaseBeamExecutor.Context(
    beam_pipeline_args=[
        "--direct_running_mode=multi_threading",
        "--direct_num_workers=3",
    ]
)


class Linear(tf.Module):
    """Classes of two numbers; fails where they are missing."""

    def __init__(self, kernel):
        super().__init__()
        self.kernel = tf.Variable(kernel)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def classify(self, examples):
        spec = {"x": tf.io.FixedLenFeature([2], tf.float32)}
        x = tf.io.parse_example(examples, spec)["x"]
        logits = x @ self.kernel
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}


def save(kernel, uri):
    made = artifact(standard_artifacts.Model, uri)
    module = Linear(kernel)
    signatures = {"classify": module.classify}
    tf.saved_model.save(module, f"{made.uri}/Format-Serving", signatures)
    return made


def answers(kernel, rows=slice(None)):
    logits = X[rows] @ kernel
    total = np.exp(logits - logits.max(axis=1, keepdims=True))
    return total / total.sum(axis=1, keepdims=True)


def example(row, name=None, label=True, **features):
    """Returns an example of a row; `name` is another key, or `False` none."""
    given = {"x": tf.train.FloatList(value=X[row]), **features}
    feature = {k: tf.train.Feature(float_list=v) for k, v in given.items()}
    if name is not False:
        text = (NAMES[row] if name is None else name).encode()
        feature["name"] = tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[text])
        )
    if label:
        feature["label"] = tf.train.Feature(
            int64_list=tf.train.Int64List(value=[LABELS[row]])
        )
    return tf.train.Example(features=tf.train.Features(feature=feature))


def write(uri, splits, files=2):
    """An Examples artifact; a split's examples lie in several files."""
    made = artifact(standard_artifacts.Examples, uri, list(splits))
    made.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    for split, given in splits.items():
        folder = pathlib.Path(uri, f"Split-{split}")
        for number in range(files):
            write_records(folder / f"{number}.gz", given[number::files])
    return made


def read(made, split):
    """Returns the features of each example of a split."""
    folder = pathlib.Path(made.uri, f"Split-{split}")
    found = []
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path), "GZIP"):
            features = tf.train.Example.FromString(record.numpy()).features
            found.append(
                {
                    name: list(getattr(value, value.WhichOneof("kind")).value)
                    for name, value in features.feature.items()
                }
            )
    return found


def content(made):
    folder = pathlib.Path(made.uri)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
