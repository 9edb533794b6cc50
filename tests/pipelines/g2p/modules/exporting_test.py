"""Teacher and student, trained and exported where `pathlib` does not reach."""

import json
import types

import apache_beam as beam
import pytest
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata
from tensorflow_transform.tf_metadata import schema_utils
from tfx.utils import io_utils

from pipelines.g2p.modules import preprocessing
from pipelines.g2p.modules import student
from pipelines.g2p.modules import text
from pipelines.g2p.modules import trainer
from pipelines.g2p.modules.warm_start import start_from
from tests.components.remote_store import files
from tests.components.remote_store import remote_store
from tests.pipelines.g2p.modules.training_test import pairs

pytestmark = [pytest.mark.tfx, pytest.mark.large]

EXPORTED = {
    "saved_model.pb",
    "variables/variables.index",
    "assets.extra/model.keras",
    "assets.extra/page.json",
    "assets.extra/tf_serving_warmup_requests",
}


STUDENT = {
    "layers": {"num_encoder_layers": 1, "num_decoder_layers": 2},
    "student_loss_weight": 0.5,
}


@pytest.fixture
def remote(monkeypatch, tmp_path):
    with remote_store(monkeypatch, tmp_path) as uri:
        yield uri


def write_graph(directory):
    """Writes what the Transform component hands on."""
    features = (preprocessing.WORD, preprocessing.PRONUNCIATIONS)
    spec = {name: tf.io.FixedLenFeature([1], tf.string) for name in features}
    metadata = dataset_metadata.DatasetMetadata(
        schema_utils.schema_from_feature_spec(spec)
    )

    def preprocess(inputs):
        config = {"keep_stress": False}
        return preprocessing.preprocessing_fn(inputs, config)

    with beam.Pipeline() as pipeline:
        with tft_beam.Context(temp_dir=f"{directory}.temporary"):
            examples = pipeline | beam.Create([dict.fromkeys(features, ["a"])])
            graph = (examples, metadata) | tft_beam.AnalyzeDataset(preprocess)
            _ = graph | tft_beam.WriteTransformFn(str(directory))


def write_examples(directory):
    """Writes transformed examples, as the Transform component does."""
    directory.mkdir()
    path = str(directory / "transformed_examples-00000-of-00001.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for source, target in zip(*pairs(), strict=True):
            padding = [text.PAD_ID] * (text.SOURCE_LENGTH - len(source))
            example = tf.train.Example()
            feature = example.features.feature
            for name, ids in (
                (preprocessing.ENCODER_TOKEN_IDS, [*source, *padding]),
                (preprocessing.TARGET_TOKEN_IDS, target[target != text.PAD_ID]),
            ):
                feature[name].int64_list.value.extend(int(i) for i in ids)
            writer.write(example.SerializeToString())


@pytest.fixture
def given(tmp_path):
    """What the trainers read; made before the store watches for files."""
    write_graph(tmp_path / "given" / "graph")
    write_examples(tmp_path / "given" / "examples")
    return tmp_path / "given"


def test_teacher_and_student_in_a_remote_store(given, remote):
    io_utils.copy_dir(str(given), f"{remote}/given")

    def run(module, name, base_model, **options):
        module.run_fn(
            types.SimpleNamespace(
                custom_config={
                    "keep_stress": False,
                    "training": {"steps": 2, "batch_size": 8},
                    "warm_start_share": 1.0,
                    **options,
                },
                hyperparameters=None,
                train_files=[f"{remote}/given/examples/*"],
                eval_files=[f"{remote}/given/examples/*"],
                base_model=base_model,
                transform_graph_path=f"{remote}/given/graph",
                serving_model_dir=f"{remote}/{name}/Format-Serving",
                model_run_dir=f"{remote}/{name}_run",
            )
        )
        (curve,) = files(f"{remote}/{name}_run").values()
        assert json.loads(curve)["loss"]
        assert set(files(f"{remote}/{name}/Format-Serving")) >= EXPORTED
        return f"{remote}/{name}/Format-Serving"

    teacher = run(
        trainer, "teacher", None, preset="switch_tiny", strategy="default"
    )
    served = tf.saved_model.load(run(student, "student", teacher, **STUDENT))
    answer = served.signatures["serving_default"](word=tf.constant(["keras"]))
    assert answer["status"].numpy().tolist() == [b"ok"]

    another = trainer.new_teacher("switch_tiny", keep_stress=False)
    assert start_from(another, teacher)
    assert not start_from(another, f"{remote}/missing")
