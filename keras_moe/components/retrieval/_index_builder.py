"""Builds, tunes and certifies the index of a search, as a component."""

import json
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tfx import types
from tfx.components.util import udf_utils
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import base_executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.component_spec import ComponentSpec
from tfx.types.component_spec import ExecutionParameter
from tfx.utils import path_utils

from keras_moe.calibration import NotCertifiedError
from keras_moe.components import _artifacts as artifacts
from keras_moe.components._artifact_files import load_keras_model
from keras_moe.components._artifact_files import split_patterns
from keras_moe.components._artifact_files import written_locally
from keras_moe.components.gates._gate_closed_error import GateClosedError
from keras_moe.components.retrieval._embedding_rows import CandidateRows
from keras_moe.components.retrieval._embedding_rows import read_embeddings
from keras_moe.components.retrieval._encoder import ENCODER
from keras_moe.components.retrieval._encoder import encoder_digest
from keras_moe.components.retrieval._encoder import encoder_path
from keras_moe.components.retrieval._search_task import SearchTask
from keras_moe.components.retrieval._search_task import SearchTaskArgs
from keras_moe.model_folder import TUNED_INDEX
from keras_moe.model_folder import is_saved_model
from keras_moe.retrieval import BlockIndex
from keras_moe.retrieval import IndexTuner
from keras_moe.retrieval import TunedIndex
from keras_moe.validation import check_fraction
from keras_moe.validation import check_not_negative
from keras_moe.validation import check_size


class IndexBuilderExecutor(base_executor.BaseExecutor):
    """Writes the model with its index and the evidence of its recall."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Builds, tunes, certifies and exports.

        Raises:
            GateClosedError: if the recall is not certified, or too many
                candidates could not be embedded.
            ValueError: if another model embedded the candidates, there are
                fewer than `max_k`, or queries do not fit them.
            FileNotFoundError: if the model holds no Keras model.
            RuntimeError: if `export` of the task writes no SavedModel.
        """
        settings = json.loads(exec_properties["settings"])
        made = artifact_utils.get_single_instance(input_dict["embeddings"])
        _check_encoder(made, encoder_path(input_dict["encoder"]))
        rows = read_embeddings(made.uri)
        _check_rows(rows, settings)
        task_fn = udf_utils.get_fn(exec_properties, "task_fn")
        task: SearchTask = task_fn(
            SearchTaskArgs(
                encoder=load_keras_model(input_dict["encoder"]),
                example_files=split_patterns(
                    input_dict["examples"], settings["splits"]
                ),
                custom_config=json.loads(exec_properties["custom_config"]),
            )
        )
        tuned = _tune(rows, task, settings)
        figures = json.dumps(_figures(tuned, rows, len(task.queries)))
        model = artifact_utils.get_single_instance(output_dict["model"])
        uri = path_utils.serving_model_dir(model.uri)
        with written_locally(uri) as directory:
            task.export(directory, tuned.index)
            if not is_saved_model(directory):
                raise RuntimeError(
                    "`export` of the task must write a SavedModel, as "
                    "`keras_moe.serving.export_search` does. There is none at "
                    f"{directory}."
                )
            path = directory / TUNED_INDEX
            path.parent.mkdir(exist_ok=True)
            tuned.save(path)
        report = artifact_utils.get_single_instance(output_dict["report"])
        with written_locally(report.uri) as directory:
            tuned.save(directory / TUNED_INDEX.name)
        for artifact in (report, model):
            artifact.set_string_custom_property("recall", figures)


def _check_encoder(embeddings: types.Artifact, path: str) -> None:
    """Raises unless the model is the one that embedded the candidates."""
    recorded = embeddings.get_string_custom_property(ENCODER)
    found = encoder_digest(path)
    if recorded != found:
        raise ValueError(
            "`embeddings` must be those of `encoder`: scores of queries and "
            "candidates of two models mean nothing. Received: embeddings of "
            f"the model {recorded or '(none)'}, and the model {found}."
        )


def _check_rows(rows: CandidateRows, settings: Mapping[str, Any]) -> None:
    if len(rows.failed) > settings["max_failed"]:
        name, why = rows.failed[0]
        raise GateClosedError(
            f"{len(rows.failed)} candidates could not be embedded, and at most "
            f"{settings['max_failed']} are accepted: {name!r}: {why}"
        )
    if len(rows.identifiers) < settings["max_k"]:
        raise ValueError(
            f"There must be at least max_k={settings['max_k']} candidates. "
            f"Received: {len(rows.identifiers)}."
        )


def _tune(
    rows: CandidateRows, task: SearchTask, settings: Mapping[str, Any]
) -> TunedIndex:
    index = BlockIndex(
        rows.embeddings,
        rows.identifiers,
        k=settings["max_k"],
        # Enough for the largest k; the tuner says how many.
        blocks_to_search=len(rows.identifiers),
        storage=settings["storage"],
        seed=settings["seed"],
    )
    tuner = IndexTuner(
        index,
        k=settings["k"],
        confidence_level=settings["confidence_level"],
        seed=settings["seed"],
    )
    try:
        return tuner.fit(task.queries, target_recall=settings["target_recall"])
    except NotCertifiedError as error:
        raise GateClosedError(f"no index: {error}") from error


def _figures(
    tuned: TunedIndex, rows: CandidateRows, queries: int
) -> dict[str, Any]:
    """Gives what a reader of metadata wants to know, as plain values."""
    return {
        "k": tuned.k,
        "certified_recall": tuned.certified_recall,
        "confidence_level": tuned.certificate.confidence_level,
        "measured_recall": tuned.measured_recall,
        "predicted_recall": tuned.predicted_recall,
        "queries": queries,
        "bytes_per_query": tuned.bytes_per_query,
        "settings": tuned.settings,
        "candidates": len(rows.identifiers),
        "failed": len(rows.failed),
    }


class IndexBuilderSpec(ComponentSpec):
    """Parameters, inputs and outputs of `IndexBuilder`."""

    PARAMETERS = {
        "task_fn": ExecutionParameter(type=str),
        # JSON text: ML Metadata would round numbers to six decimals.
        "settings": ExecutionParameter(type=str),
        "custom_config": ExecutionParameter(type=str),
    }
    INPUTS = {
        "encoder": ChannelParameter(type=standard_artifacts.Model),
        "embeddings": ChannelParameter(type=artifacts.CandidateEmbeddings),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "report": ChannelParameter(type=artifacts.IndexReport),
    }


class IndexBuilder(base_component.BaseComponent):
    """Builds the index of a search, certifies its recall, and exports both.

    What it outputs is what is evaluated, validated and pushed: the query
    encoder with the index as a part of it. Where the recall is not certified
    there is no model, and so nothing to push: the component fails, with the
    reason.

    Inputs:
        encoder: `Model`, with the Keras model in `assets.extra/model.keras`:
            the one that embedded the candidates; another is refused.
        embeddings: `CandidateEmbeddings`, of `CandidateEmbedder`.
        examples: `Examples` with queries, which had no part in training.

    Outputs:
        model: `Model`, with `assets.extra/tuned_index.json`.
        report: `IndexReport`. The custom property `recall` of both is a JSON
            text: certified, predicted and measured recall, bytes a query,
            settings.

    Args:
        encoder: the channel of that input.
        embeddings: the channel of that input.
        examples: the channel of that input.
        task_fn: import path of a function from `SearchTaskArgs` to
            `SearchTask`: how to embed the queries, and how to export.
        target_recall: share of the true best `k` to be certified.
        k: of the recall.
        max_k: greatest number of answers that a request may ask for.
        confidence_level: between 0 and 1.
        storage: of candidates, see `keras_moe.retrieval.BlockIndex`.
        max_failed: so many candidates without an embedding are left out; one
            more, and there is no index.
        splits: of the examples, with the queries to tune and certify on.
        seed: of the index and of the split of the queries.
        custom_config: what else `task_fn` is to know, as plain values; also a
            fingerprint of its code, see `Distiller`.

    Example:
    ```python
    builder = keras_moe.components.IndexBuilder(
        encoder=trainer.outputs["model"],
        embeddings=embedder.outputs["embeddings"],
        examples=example_gen.outputs["examples"],
        task_fn="my_project.search.search_task",
        target_recall=0.95,
    )
    ```
    """

    SPEC_CLASS = IndexBuilderSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(IndexBuilderExecutor)

    def __init__(
        self,
        encoder: types.BaseChannel,
        embeddings: types.BaseChannel,
        examples: types.BaseChannel,
        task_fn: str,
        target_recall: float = 0.95,
        k: int = 10,
        max_k: int = 100,
        confidence_level: float = 0.95,
        storage: str = "float32",
        max_failed: int = 0,
        splits: Sequence[str] = ("calibration",),
        seed: int = 0,
        custom_config: Mapping[str, Any] | None = None,
    ) -> None:
        check_size(k=k, max_k=max_k)
        check_fraction(
            target_recall=target_recall, confidence_level=confidence_level
        )
        check_not_negative(max_failed=max_failed)
        if k > max_k:
            raise ValueError(
                f"`k` must be at most max_k={max_k}. Received: k={k}."
            )
        settings = {
            "target_recall": target_recall,
            "k": k,
            "max_k": max_k,
            "confidence_level": confidence_level,
            "storage": storage,
            "max_failed": max_failed,
            "splits": list(splits),
            "seed": seed,
        }
        super().__init__(
            IndexBuilderSpec(
                encoder=encoder,
                embeddings=embeddings,
                examples=examples,
                task_fn=task_fn,
                settings=json.dumps(settings, sort_keys=True),
                custom_config=json.dumps(
                    dict(custom_config or {}), sort_keys=True
                ),
                model=types.Channel(type=standard_artifacts.Model),
                report=types.Channel(type=artifacts.IndexReport),
            )
        )
