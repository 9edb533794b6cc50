"""Picks the features that a pipeline keeps, as a component."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import base_executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.component_spec import ComponentSpec
from tfx.types.component_spec import ExecutionParameter

from keras_moe.atomic_file import atomic_file
from keras_moe.components import _artifacts as artifacts
from keras_moe.components._artifact_files import read_locally
from keras_moe.components._artifact_files import split_patterns
from keras_moe.components._artifact_files import written_locally
from keras_moe.components.selection._encode import encode
from keras_moe.components.selection._feature_table import Column
from keras_moe.components.selection._feature_table import candidates
from keras_moe.components.selection._feature_table import read_columns
from keras_moe.components.selection._select import Label
from keras_moe.components.selection._select import select
from keras_moe.layers.selection._features import check_unique
from keras_moe.validation import check_positive
from keras_moe.validation import check_seed
from keras_moe.validation import check_size
from keras_moe.visualization import plot_feature_curve

_SELECTION, _PICTURE = "selection.json", "accuracy_by_features.png"
_SCHEMA = "schema.pbtxt"
# More whole numbers than that are counts, not classes.
_MOST_CLASSES = 100


class FeatureSelectorExecutor(base_executor.BaseExecutor):
    """Picks, measures, and writes what is kept."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the schema of the features that are kept, and the report.

        Raises:
            ValueError: if the label says nothing, a feature is named twice, or
                there are fewer features than are to be picked.
        """
        settings = json.loads(exec_properties["settings"])
        label_key = settings["label_key"]
        schema = _read_schema(input_dict["schema"])
        dtypes = candidates(schema, settings["always"])
        if label_key not in dtypes:
            raise ValueError(
                "`label_key` must be a feature of the schema, of numbers or "
                f"texts. Received: label_key={label_key!r}."
            )
        train, evaluation = (
            read_columns(
                split_patterns(input_dict["examples"], [settings[split]]),
                dtypes,
                settings["max_examples"],
                settings["seed"],
            )
            for split in ("train_split", "evaluation_split")
        )
        label = _label(
            train.pop(label_key, None),
            evaluation.pop(label_key, None),
            label_key,
        )
        encoded = encode(train, evaluation)
        selection = select(encoded, label, settings)
        names = set(dtypes) - {label_key}
        left_out = {
            **dict.fromkeys(sorted(set(encoded.train)), "not picked"),
            **encoded.useless,
        }
        for name in selection.names:
            del left_out[name]
        # Of those nothing is known: they stay.
        unseen = sorted(names - set(left_out) - set(selection.names))
        report = {
            "selected": selection.names,
            "left_out": left_out,
            "not_looked_at": unseen,
            "metric": label.metric,
            "curve": [list(point) for point in selection.curve],
            "of_all": selection.of_all,
        }
        _write_report(output_dict["selection"], report)
        uri = artifact_utils.get_single_uri(output_dict["kept_schema"])
        kept = _without(schema, left_out)
        with written_locally(uri) as directory:
            _write(directory / _SCHEMA, text_format.MessageToString(kept))


def _read_schema(schema: list[types.Artifact]) -> schema_pb2.Schema:
    uri = artifact_utils.get_single_uri(schema)
    with read_locally(os.path.join(uri, _SCHEMA)) as path:
        return text_format.Parse(path.read_text(), schema_pb2.Schema())


def _without(schema: schema_pb2.Schema, names: Any) -> schema_pb2.Schema:
    kept = schema_pb2.Schema()
    kept.CopyFrom(schema)
    del kept.feature[:]
    kept.feature.extend(f for f in schema.feature if f.name not in names)
    return kept


def _label(train: Column | None, other: Column | None, key: str) -> Label:
    """Returns what is to be told; each example must have one."""
    if train is None or other is None:
        raise ValueError(
            f"`label_key` must be one value. Received: {key!r} of several."
        )
    for column in (train, other):
        single = column.is_text or column.values.shape[1] == 1
        if not single or not column.there.all():
            raise ValueError(
                "`label_key` must be one value in each example. Received: "
                f"{key!r}, of which {int((~column.there).sum())} examples have "
                "none, or several."
            )
    values, others = np.ravel(train.values), np.ravel(other.values)
    known = np.unique(values)
    if len(known) < 2:
        raise ValueError(
            f"`label_key` must have two values at least. Received: {key!r}, "
            f"which is {known.tolist()}."
        )
    whole = train.is_text or np.array_equal(known, np.round(known))
    if whole and (train.is_text or len(known) <= _MOST_CLASSES):
        place = {value: number for number, value in enumerate(known.tolist())}
        return Label(
            np.array([place[value] for value in values.tolist()], "int32"),
            np.array([place.get(value, -1) for value in others.tolist()]),
            len(known),
        )
    if not np.isfinite([*values, *others]).all():
        raise ValueError(
            f"`label_key` must be finite. Received: {key!r}, which is not."
        )
    mean, deviation = values.mean(), values.std()
    return Label(
        ((values - mean) / deviation).astype("float32"),
        (others - mean) / deviation,
        0,
    )


def _write_report(output: list[types.Artifact], report: dict[str, Any]) -> None:
    artifact = artifact_utils.get_single_instance(output)
    with written_locally(artifact.uri) as directory:
        plot_feature_curve(
            dict(report["curve"]),
            report["of_all"],
            score_label=report["metric"],
            title=f"{report['metric']} by number of features",
            path=directory / _PICTURE,
        )
        _write(directory / _SELECTION, json.dumps(report, indent=2) + "\n")
    selected = json.dumps(report["selected"])
    artifact.set_string_custom_property("selected", selected)


def _write(path: pathlib.Path, text: str) -> None:
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_selected_features(uri: str | os.PathLike[str]) -> list[str]:
    """Reads the names of features that were picked, the first first.

    Example:
    ```python
    (artifact,) = selector.outputs["selection"].get()
    names = keras_moe.components.read_selected_features(artifact.uri)
    ```

    Args:
        uri: of a `FeatureSelection` artifact.
    """
    with read_locally(os.path.join(os.fspath(uri), _SELECTION)) as path:
        return json.loads(path.read_text(encoding="utf-8"))["selected"]


class FeatureSelectorSpec(ComponentSpec):
    """Parameters, inputs and outputs of `FeatureSelector`."""

    PARAMETERS = {"settings": ExecutionParameter(type=str)}
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {
        "kept_schema": ChannelParameter(type=standard_artifacts.Schema),
        "selection": ChannelParameter(type=artifacts.FeatureSelection),
    }


class FeatureSelector(base_component.BaseComponent):
    """Picks the features of examples that tell most of a label.

    `keras_moe.layers.SequentialAttention` picks, in one training of a small
    network; fresh ones then show what the first 1, 2, 4 and so on are good for,
    and what all are. Give `Transform` the schema of what is kept: its
    `preprocessing_fn` then gets these features alone.

    A feature is a candidate if it is of one size: numbers, one or several, or
    one text, whose thousand most frequent values are told apart. Constant
    features, and such with a value that is not finite, are left out; of those
    that have several sizes nothing is known, and they are kept.

    Inputs:
        examples: `Examples`, of `tf.train.Example`s.
        schema: `Schema` of them.

    Outputs:
        kept_schema: `Schema` of what is kept: what was picked, the label, and
            `always`.
        selection: `FeatureSelection`: names, reasons, and a picture of the
            accuracy by number of features.

    Args:
        examples: the channel of that input.
        schema: the channel of that input.
        label_key: the feature to be told. Texts, and whole numbers of up to
            100 values, are classes; of other numbers the share of variance
            that is explained counts.
        num_features: how many to pick.
        num_per_step: how many at once.
        steps_per_pick: training steps before each pick.
        fresh_steps: of the networks that are measured.
        learning_rate: of Adam.
        batch_size: of training.
        always: features that are kept, and no candidates: keys, weights.
        train_split: what is learned from.
        evaluation_split: what is measured on.
        max_examples: more of a split are not read: a sample of them is.
        seed: of samples and networks.

    Raises:
        ValueError: if an argument is out of its range, or a name comes twice.

    Example:
    ```python
    selector = keras_moe.components.FeatureSelector(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        label_key="tips",
        num_features=8,
    )
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"],
        schema=selector.outputs["kept_schema"],
        module_file="preprocessing.py",
    )
    ```
    """

    SPEC_CLASS = FeatureSelectorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(FeatureSelectorExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        schema: types.BaseChannel,
        label_key: str,
        num_features: int,
        num_per_step: int = 1,
        steps_per_pick: int = 200,
        fresh_steps: int = 1000,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        always: Sequence[str] = (),
        train_split: str = "train",
        evaluation_split: str = "eval",
        max_examples: int = 100_000,
        seed: int = 0,
    ) -> None:
        sizes = {
            "num_features": num_features,
            "num_per_step": num_per_step,
            "steps_per_pick": steps_per_pick,
            "fresh_steps": fresh_steps,
            "batch_size": batch_size,
            "max_examples": max_examples,
        }
        check_size(**sizes)
        check_positive(learning_rate=learning_rate)
        check_seed(seed)
        check_unique("always", [label_key, *always])
        settings = {
            **sizes,
            "label_key": label_key,
            "learning_rate": learning_rate,
            "always": list(always),
            "train_split": train_split,
            "evaluation_split": evaluation_split,
            "seed": seed,
        }
        super().__init__(
            FeatureSelectorSpec(
                examples=examples,
                schema=schema,
                settings=json.dumps(settings, sort_keys=True),
                kept_schema=types.Channel(type=standard_artifacts.Schema),
                selection=types.Channel(type=artifacts.FeatureSelection),
            )
        )
