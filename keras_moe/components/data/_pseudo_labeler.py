"""Labels examples with a teacher's answers, as a component."""

import json
import os
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.dsl.components.base import base_beam_component
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.component_spec import ComponentSpec
from tfx.types.component_spec import ExecutionParameter

from keras_moe.components._artifact_files import read_locally
from keras_moe.components._artifact_files import written_locally
from keras_moe.components.data._derived_examples import copy_splits
from keras_moe.components.data._derived_examples import name_splits
from keras_moe.components.data._label import AnswerShard
from keras_moe.components.data._label import WriteLabelled
from keras_moe.components.data._label import fit_accuracy
from keras_moe.components.data._label import labelled_answers
from keras_moe.components.data._pool import Models
from keras_moe.components.data._pool import ReadPool
from keras_moe.components.data._pool import check_splits
from keras_moe.components.data._pool import files_of
from keras_moe.components.retrieval._encoder import check_signature
from keras_moe.components.retrieval._encoder import encoder_path
from keras_moe.distillation import TeacherAccuracy
from keras_moe.validation import check_size

_REPORT = "teacher_accuracy.json"


class PseudoLabelerExecutor(base_beam_executor.BaseBeamExecutor):
    """Writes the labelled examples, in shards, and copies other splits."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Labels.

        Raises:
            ValueError: if the teacher, a split or a label is not as it must
                be. Nothing is written then.
        """
        settings = json.loads(exec_properties["settings"])
        examples = input_dict["examples"]
        splits, measured = settings["splits"], settings["accuracy_splits"]
        check_splits(examples, [*splits, *measured])
        path = encoder_path(input_dict["teacher"])
        check_signature(path, settings["signature_name"], settings["output"])
        made = artifact_utils.get_single_instance(
            output_dict["labelled_examples"]
        )
        folders = name_splits(examples, made)
        shards = settings["num_shards"]
        read = sorted({*splits, *measured})
        with self._make_beam_pipeline() as pipeline:
            rows = (
                pipeline
                | "Files" >> beam.Create(files_of(examples, read))
                | "Spread" >> beam.Reshuffle()
                | "Read" >> beam.ParDo(ReadPool(settings["key"], shards))
            )
            # A file for each shard, also for one without rows.
            every = [(shard, None) for shard in range(shards)]
            answered = (
                (rows, pipeline | "Shards" >> beam.Create(every))
                | "Join" >> beam.Flatten()
                | "Gather" >> beam.GroupByKey()
                | "Ask"
                >> beam.ParDo(
                    AnswerShard(
                        Models(
                            [path],
                            settings["signature_name"],
                            settings["output"],
                            settings["batch_size"],
                        ),
                        settings["from_logits"],
                    )
                )
            )
            fitted = (
                answered
                | "Known"
                >> beam.FlatMap(
                    labelled_answers, measured, settings["label_key"]
                )
                | "All" >> beam.combiners.ToList()
                | "Fit" >> beam.Map(fit_accuracy)
            )
            accuracy = beam.pvalue.AsSingleton(fitted)
            _ = (
                answered
                | "Write"
                >> beam.ParDo(
                    WriteLabelled({s: folders[s] for s in splits}, shards),
                    accuracy,
                )
                | "Count" >> beam.CombineGlobally(sum)
                | "Report" >> beam.Map(_write_report, accuracy, made.uri)
            )
        copy_splits(examples, folders, splits)
        with read_locally(os.path.join(made.uri, _REPORT)) as local:
            report = json.loads(local.read_text())
        made.set_int_custom_property("labelled", report.pop("labelled"))
        made.set_string_custom_property(
            "teacher_accuracy", json.dumps(report, sort_keys=True)
        )


def _write_report(count: int, accuracy: TeacherAccuracy, uri: str) -> None:
    report = {
        "labelled": count,
        "margins": list(accuracy.margins),
        "accuracies": list(accuracy.accuracies),
    }
    with written_locally(uri) as folder:
        (folder / _REPORT).write_text(json.dumps(report, indent=2) + "\n")


class PseudoLabelerSpec(ComponentSpec):
    """Parameters, inputs and outputs of `PseudoLabeler`."""

    PARAMETERS = {"settings": ExecutionParameter(type=str)}
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "teacher": ChannelParameter(type=standard_artifacts.Model),
    }
    OUTPUTS = {
        "labelled_examples": ChannelParameter(type=standard_artifacts.Examples)
    }


class PseudoLabeler(base_beam_component.BaseBeamComponent):
    """Labels examples with a teacher's answers, in Beam.

    Each example of `splits` gets the features `teacher_label`, an integer,
    `teacher_probabilities`, of all classes, and `teacher_accuracy`: how likely
    the teacher is right, by its margin on labelled examples that it must not
    have been trained on (`keras_moe.distillation.TeacherAccuracy`). Other
    splits stay as they are. A second run, and any number of workers, write the
    same files.

    Inputs:
        examples: `Examples`, compressed TFRecords of `tf.train.Example`s.
        teacher: `Model`, with the signature.

    Outputs:
        labelled_examples: `Examples`, with the custom properties `labelled`,
            how many, and `teacher_accuracy`, a JSON text of margins and
            accuracies; both also in `teacher_accuracy.json`.

    Args:
        examples: the channel of that input.
        teacher: the channel of that input.
        key: of the examples' features: one text or integer, which tells an
            example from others.
        label_key: of the examples' features: an integer, the true class; in
            the examples of `accuracy_splits`.
        splits: what is labelled.
        accuracy_splits: what the teacher's accuracy is measured on.
        signature_name: a signature of the teacher that takes serialized
            examples alone.
        output: of that signature, `[batch, classes]`.
        from_logits: whether the output is logits, or probabilities.
        num_shards: files of each split; a worker holds one in memory.
        batch_size: examples of a call.

    Example:
    ```python
    labeler = keras_moe.components.PseudoLabeler(
        examples=example_gen.outputs["examples"],
        teacher=trainer.outputs["model"],
        key="identifier",
        label_key="category",
        splits=["unlabelled"],
        accuracy_splits=["calibration"],
        signature_name="serve_examples",
    )
    ```
    """

    SPEC_CLASS = PseudoLabelerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(PseudoLabelerExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        teacher: types.BaseChannel,
        key: str,
        label_key: str,
        splits: Sequence[str] = ("train",),
        accuracy_splits: Sequence[str] = ("calibration",),
        signature_name: str = "serving_default",
        output: str = "probabilities",
        from_logits: bool = False,
        num_shards: int = 8,
        batch_size: int = 512,
    ) -> None:
        check_size(num_shards=num_shards, batch_size=batch_size)
        if not splits or not accuracy_splits:
            raise ValueError(
                "`splits` and `accuracy_splits` must name one split each. "
                f"Received: {list(splits)} and {list(accuracy_splits)}."
            )
        settings = {
            "key": key,
            "label_key": label_key,
            "splits": list(splits),
            "accuracy_splits": list(accuracy_splits),
            "signature_name": signature_name,
            "output": output,
            "from_logits": from_logits,
            "num_shards": num_shards,
            "batch_size": batch_size,
        }
        super().__init__(
            PseudoLabelerSpec(
                examples=examples,
                teacher=teacher,
                settings=json.dumps(settings, sort_keys=True),
                labelled_examples=types.Channel(
                    type=standard_artifacts.Examples
                ),
            )
        )
