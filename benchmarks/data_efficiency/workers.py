"""Whether Beam's workers choose the same glosses, however many they are."""

import pathlib
from typing import Any

import numpy as np
import tensorflow as tf
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types import standard_artifacts

from benchmarks.shared.glosses import CLASSES
from benchmarks.shared.glosses import load_glosses
from keras_moe import components
from keras_moe import data
from keras_moe.orchestration import text_example
from keras_moe.orchestration import write_records

_ROWS, _BUDGET, _FILES = 4_000, 500, 8
_BUCKETS = 1 << 12


class _Words(tf.Module):
    """Classes of a gloss by its words, with random weights."""

    def __init__(self, seed: int):
        super().__init__()
        kernel = np.random.default_rng(seed).normal(size=[_BUCKETS, CLASSES])
        self.kernel = tf.Variable(kernel.astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def classify(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {"gloss": tf.io.FixedLenFeature([], tf.string)}
        gloss = tf.io.parse_example(examples, spec)["gloss"]
        words = tf.strings.split(gloss)
        ids = tf.strings.to_hash_bucket_fast(words, _BUCKETS)
        rows = tf.ragged.map_flat_values(
            lambda flat: tf.gather(self.kernel, flat), ids
        )
        return {"probabilities": tf.nn.softmax(tf.reduce_sum(rows, axis=1))}


def measure(folder: pathlib.Path) -> dict[str, bool]:
    """Chooses with one worker, again, and with four on other files.

    Args:
        folder: an empty one.
    """
    words, _, keys = load_glosses(0)
    records = [
        text_example(gloss=" ".join(text), identifier=key)
        for text, key in zip(words[:_ROWS], keys, strict=False)
    ]
    model = _artifact(standard_artifacts.Model, folder / "model")
    module = _Words(0)
    signatures = {"classify": module.classify}
    tf.saved_model.save(module, f"{model.uri}/Format-Serving", signatures)
    one, again = (
        _choose(_write(folder / name, records, 1), model, folder / name, 1)
        for name in ("one", "again")
    )
    backwards = _write(folder / "four", records[::-1], _FILES)
    four = _choose(backwards, model, folder / "four", 4)
    answers = module.classify(
        tf.constant([record.SerializeToString() for record in records])
    )["probabilities"].numpy()
    selector = data.ImportanceSelector("entropy")
    chosen = selector.select(
        lambda rows: answers[rows],
        np.arange(_ROWS),
        _BUDGET,
        keys=keys[:_ROWS],
    )
    return {
        "again": one == again,
        "four_workers": one == four,
        "memory": _keys(folder / "one") == {keys[i] for i in chosen.indices},
    }


def _artifact(kind: Any, path: pathlib.Path) -> Any:
    made = kind()
    made.uri = str(path)
    fileio.makedirs(made.uri)
    return made


def _write(folder: pathlib.Path, records: list, files: int) -> Any:
    made = _artifact(standard_artifacts.Examples, folder / "examples")
    made.split_names = artifact_utils.encode_split_names(["train"])
    for number in range(files):
        path = folder / "examples" / "Split-train" / f"{number}.gz"
        write_records(path, records[number::files])
    return made


def _choose(
    examples: Any, model: Any, folder: pathlib.Path, workers: int
) -> dict[str, bytes]:
    """Runs the component; gives the content of the files it writes."""
    component = components.SubsetSelector(
        examples=_channel(examples),
        selector=data.ImportanceSelector("entropy"),
        budget=_BUDGET,
        key="identifier",
        model=_channel(model),
        signature_name="classify",
    )
    made = _artifact(standard_artifacts.Examples, folder / "chosen")
    context = base_beam_executor.BaseBeamExecutor.Context(
        beam_pipeline_args=[
            "--direct_running_mode=multi_threading",
            f"--direct_num_workers={workers}",
        ]
    )
    component.EXECUTOR_SPEC.executor_class(context).Do(
        {"examples": [examples], "model": [model]},
        {"selected_examples": [made]},
        component.exec_properties,
    )
    return {path.name: path.read_bytes() for path in _files(folder)}


def _channel(artifact: Any) -> Any:
    return types.Channel(type=type(artifact))


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted((folder / "chosen" / "Split-train").iterdir())


def _keys(folder: pathlib.Path) -> set[str]:
    files = [str(path) for path in _files(folder)]
    found = set()
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        found.add(features["identifier"].bytes_list.value[0].decode())
    return found
