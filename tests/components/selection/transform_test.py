"""Transform gets the features that are kept, and no others."""

import pytest
import tensorflow as tf
from tfx import v1 as tfx
from tfx.types import standard_artifacts

from keras_moe import components
from tests.components.selection.feature_selector_test import make
from tests.components.selection.feature_selector_test import rows

pytestmark = [pytest.mark.tfx, pytest.mark.large]


def preprocessing_fn(inputs):
    """Passes on what it is given, by other names."""
    return {f"{name}_kept": value for name, value in inputs.items()}


def test_transform_reads_the_schema_of_what_is_kept(tmp_path):
    made = make(tmp_path, [list(rows(300)), list(rows(100, seed=1))])
    (given,), (schema,) = made["examples"], made["schema"]
    examples = tfx.dsl.Importer(
        source_uri=given.uri,
        artifact_type=standard_artifacts.Examples,
        properties={"split_names": given.split_names},
    ).with_id("examples")
    types = tfx.dsl.Importer(
        source_uri=schema.uri, artifact_type=standard_artifacts.Schema
    ).with_id("schema")
    selector = components.FeatureSelector(
        examples=examples.outputs["result"],
        schema=types.outputs["result"],
        label_key="label",
        num_features=2,
        steps_per_pick=60,
        fresh_steps=20,
        learning_rate=0.01,
        always=["id"],
    )
    transform = tfx.components.Transform(
        examples=examples.outputs["result"],
        schema=selector.outputs["kept_schema"],
        preprocessing_fn=f"{__name__}.preprocessing_fn",
    )
    database = tfx.orchestration.metadata.sqlite_metadata_connection_config(
        str(tmp_path / "metadata.db")
    )
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="selection",
            pipeline_root=str(tmp_path / "root"),
            components=[examples, types, selector, transform],
            metadata_connection_config=database,
        )
    )
    folder = tmp_path / "root" / "Transform" / "transformed_examples"
    (path,) = folder.glob("*/Split-train/*.gz")
    (report,) = (tmp_path / "root" / "FeatureSelector").glob("selection/*")
    picked = components.read_selected_features(report)
    (record,) = tf.data.TFRecordDataset(str(path), "GZIP").take(1)
    example = tf.train.Example.FromString(record.numpy())
    kept = {"id", "label", "words", *picked}
    assert len(picked) == 2
    assert set(example.features.feature) == {f"{name}_kept" for name in kept}
