"""Embeds the candidates of a search, as a component."""

import functools
import json
import operator
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.dsl.components.base import base_beam_component
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.component_spec import ComponentSpec
from tfx.types.component_spec import ExecutionParameter

from keras_moe.components import _artifacts as artifacts
from keras_moe.components._artifact_files import read_locally
from keras_moe.components._artifact_files import split_patterns
from keras_moe.components._artifact_files import written_locally
from keras_moe.components.retrieval._embed_candidates import EmbedShard
from keras_moe.components.retrieval._embed_candidates import ReadCandidates
from keras_moe.components.retrieval._embedding_rows import EmbeddingSummary
from keras_moe.components.retrieval._embedding_rows import read_summary
from keras_moe.components.retrieval._encoder import ENCODER
from keras_moe.components.retrieval._encoder import check_signature
from keras_moe.components.retrieval._encoder import encoder_digest
from keras_moe.components.retrieval._encoder import encoder_path
from keras_moe.validation import check_size


class CandidateEmbedderExecutor(base_beam_executor.BaseBeamExecutor):
    """Writes a row for each candidate, in shards."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Embeds the candidates.

        Raises:
            ValueError: if the signature embeds no examples, identifiers repeat,
                or no candidate could be embedded.
        """
        settings = json.loads(exec_properties["settings"])
        path = encoder_path(input_dict["model"])
        check_signature(path, settings["signature_name"])
        made = artifact_utils.get_single_instance(output_dict["embeddings"])
        patterns = split_patterns(input_dict["examples"], settings["splits"])
        files = [file for each in patterns for file in fileio.glob(each)]
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(sorted(files))
                | "Spread" >> beam.Reshuffle()
                | "Read"
                >> beam.ParDo(
                    ReadCandidates(
                        settings["identifier_key"], settings["num_shards"]
                    )
                )
                | "Gather" >> beam.GroupByKey()
                | "Embed"
                >> beam.ParDo(
                    EmbedShard(
                        path,
                        settings["signature_name"],
                        made.uri,
                        settings["num_shards"],
                        settings["batch_size"],
                    )
                )
                | "Sum up" >> beam.CombineGlobally(_total)
                | "Write" >> beam.Map(_write_summary, made.uri)
            )
        with read_locally(made.uri) as folder:
            summary = read_summary(folder)
        _check(summary)
        made.set_string_custom_property(ENCODER, encoder_digest(path))
        made.set_int_custom_property("candidates", summary.candidates)
        made.set_int_custom_property("failed", summary.failed)
        made.set_int_custom_property("dim", summary.dims[0])


def _total(summaries: Any) -> EmbeddingSummary:
    return functools.reduce(operator.add, summaries, EmbeddingSummary())


def _write_summary(summary: EmbeddingSummary, uri: str) -> None:
    with written_locally(uri) as folder:
        summary.save(folder)


def _check(summary: EmbeddingSummary) -> None:
    if summary.repeated:
        raise ValueError(
            "Identifiers of candidates must be different. Received: "
            f"{', '.join(map(repr, summary.repeated))} more than once."
        )
    if not summary.candidates:
        reasons = "; ".join(summary.reasons) or "there are no examples"
        raise ValueError(
            "There must be a candidate that can be embedded. Received: "
            f"{summary.failed} that cannot: {reasons}."
        )
    if len(summary.dims) != 1 or not summary.dims[0]:
        sizes = ", ".join(map(str, summary.dims))
        raise ValueError(
            "`embedding` must have one size for all candidates. Received: "
            f"{sizes}."
        )


class CandidateEmbedderSpec(ComponentSpec):
    """Parameters, inputs and outputs of `CandidateEmbedder`."""

    PARAMETERS = {"settings": ExecutionParameter(type=str)}
    INPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {
        "embeddings": ChannelParameter(type=artifacts.CandidateEmbeddings)
    }


class CandidateEmbedder(base_beam_component.BaseBeamComponent):
    """Embeds all candidates of a search, in Beam.

    A row of output for each candidate, with its identifier, its embedding and
    its status, in shards by a hash of the identifier and in its order: one
    worker or a hundred write the same files. A candidate that cannot be
    embedded has a status that says why; identifiers that repeat stop the run.

    Inputs:
        model: `Model`, with the signature.
        examples: `Examples`, compressed TFRecords of `tf.train.Example`s, one
            for each candidate.

    Outputs:
        embeddings: `CandidateEmbeddings`, with the custom properties
            `candidates`, `failed`, `dim`, and `encoder`, a digest of the model.

    Args:
        model: the channel of that input.
        examples: the channel of that input.
        identifier_key: of the examples' features: one text, which tells a
            candidate from others.
        signature_name: a signature of the model that takes serialized examples
            alone and has an output `embedding`, float `[batch, dim]`; maybe
            also `status`, texts, of which all but `"ok"` are reasons to leave
            the embedding out.
        splits: of the examples; a candidate is in one of them.
        num_shards: files that are written; a worker holds one in memory.
        batch_size: candidates of a call.

    Example:
    ```python
    embedder = keras_moe.components.CandidateEmbedder(
        model=trainer.outputs["model"],
        examples=example_gen.outputs["examples"],
        identifier_key="product",
        splits=["train", "eval"],
    )
    ```
    """

    SPEC_CLASS = CandidateEmbedderSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(CandidateEmbedderExecutor)

    def __init__(
        self,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        identifier_key: str,
        signature_name: str = "embed_candidates",
        splits: Sequence[str] = ("train", "eval"),
        num_shards: int = 8,
        batch_size: int = 512,
    ) -> None:
        check_size(num_shards=num_shards, batch_size=batch_size)
        settings = {
            "identifier_key": identifier_key,
            "signature_name": signature_name,
            "splits": list(splits),
            "num_shards": num_shards,
            "batch_size": batch_size,
        }
        super().__init__(
            CandidateEmbedderSpec(
                model=model,
                examples=examples,
                settings=json.dumps(settings, sort_keys=True),
                embeddings=types.Channel(type=artifacts.CandidateEmbeddings),
            )
        )
