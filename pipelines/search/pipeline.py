"""The TFX pipeline: from split records to a pushed, certified search."""

import pathlib

from tfx import v1 as tfx

import pipelines
from keras_moe import components
from keras_moe.orchestration import SPLITS
from keras_moe.orchestration import Span
from keras_moe.orchestration import example_nodes
from keras_moe.orchestration import find_places
from keras_moe.orchestration import last_blessed
from keras_moe.orchestration import make_pipeline
from keras_moe.orchestration import push_node
from pipelines.search import fingerprint
from pipelines.search.configs import MODEL_NAME
from pipelines.search.configs import PipelineConfig
from pipelines.search.evaluation import evaluation_config
from pipelines.search.modules.exporting import EMBED_CANDIDATES
from pipelines.search.modules.features import SYNSET

_MODULES = "pipelines.search.modules"
# The repository's root; its folder `pipelines/` goes into the image of the
# components.
_PROJECT = pathlib.Path(pipelines.__file__).parents[1]


def create_pipeline(
    config: PipelineConfig, span: Span | None = None
) -> tfx.dsl.Pipeline:
    """Builds the pipeline of a configuration, for any orchestrator.

    Args:
        config: The configuration.
        span: Which of the prepared spans of examples to use; `None` for the
            last one that there is when the pipeline runs.
    """
    places = find_places(config)
    schema_file = places.file(
        "schema_file", config.data.schema_file, _PROJECT, "pipelines"
    )
    nodes = example_nodes(places, schema_file, span)
    examples = nodes["example_gen"].outputs["examples"]
    code = fingerprint.trainer_fingerprint()
    # Texts are read within the model: there is nothing to transform.
    trainer = nodes["trainer"] = tfx.components.Trainer(
        run_fn=f"{_MODULES}.trainer.run_fn",
        examples=examples,
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["validation"]),
        custom_config={"training": vars(config.encoder.training), "code": code},
    )
    trainer.add_upstream_node(nodes["gate"])
    embedder = nodes["embedder"] = components.CandidateEmbedder(
        model=trainer.outputs["model"],
        examples=examples,
        identifier_key=SYNSET,
        signature_name=EMBED_CANDIDATES,
        # What is searched is all of WordNet. Of synsets outside train, no gloss
        # was seen.
        splits=SPLITS,
    )
    builder = nodes["builder"] = components.IndexBuilder(
        encoder=trainer.outputs["model"],
        embeddings=embedder.outputs["embeddings"],
        examples=examples,
        task_fn=f"{_MODULES}.search_task.search_task",
        target_recall=config.index.target_recall,
        k=config.index.k,
        max_k=config.index.max_k,
        confidence_level=config.index.confidence_level,
        storage=config.index.storage,
        splits=["calibration"],
        custom_config={
            "k": config.index.k,
            "max_queries": config.index.max_queries,
            "code": code,
        },
    )
    model = builder.outputs["model"]
    baseline = nodes["last_blessed"] = last_blessed(config, model)
    evaluator = nodes["evaluator"] = tfx.components.Evaluator(
        examples=examples,
        model=model,
        baseline_model=baseline.outputs["model"],
        example_splits=["test"],
        eval_config=evaluation_config(config.evaluation, config.index),
    )
    infra_validator = nodes["infra_validator"] = components.InfraValidator(
        model=model,
        examples=examples,
        model_name=MODEL_NAME,
        split="test",
        num_examples=config.infra_requests,
    )
    nodes["pusher"] = push_node(places, evaluator, infra_validator)
    return make_pipeline(config, nodes.values())
