"""The TFX pipeline: from pairs of texts to a pushed, certified search."""

import pathlib

from tensorflow_model_analysis.proto import config_pb2
from tfx import v1 as tfx

from keras_moe import components
from keras_moe.components import metric_config
from keras_moe.components import overall_bound
from keras_moe.orchestration import SPLITS
from keras_moe.orchestration import example_nodes
from keras_moe.orchestration import find_places
from keras_moe.orchestration import last_blessed
from keras_moe.orchestration import make_pipeline
from keras_moe.orchestration import push_node
from keras_moe.orchestration import training_fingerprint

PROJECT = pathlib.Path(__file__).parent


def create_pipeline(config, span=None):
    """Makes the pipeline of a configuration.

    Args:
        config: a `ProjectConfig`.
        span: which of the prepared examples to use; `None` for the last.
    """
    places = find_places(config)
    schema = PROJECT / "schema.pbtxt"
    nodes = example_nodes(
        places, places.file("schema_file", schema, PROJECT.parent), span
    )
    examples = nodes["example_gen"].outputs["examples"]
    # TFX's cache looks at parameters alone: an edit of code must be one.
    code = training_fingerprint(__package__, "keras_moe.components")
    # Texts are read within the model: there is nothing to transform.
    trainer = nodes["trainer"] = tfx.components.Trainer(
        run_fn=f"{__package__}.model.run_fn",
        examples=examples,
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["validation"]),
        custom_config={
            "training": vars(config.training),
            "batch_size": config.batch_size,
            "code": code,
        },
    )
    trainer.add_upstream_node(nodes["gate"])
    embedder = nodes["embedder"] = components.CandidateEmbedder(
        model=trainer.outputs["model"],
        examples=examples,
        identifier_key="target",
        splits=SPLITS,
    )
    builder = nodes["builder"] = components.IndexBuilder(
        encoder=trainer.outputs["model"],
        embeddings=embedder.outputs["embeddings"],
        examples=examples,
        task_fn=f"{__package__}.model.search_task",
        target_recall=config.target_recall,
        k=config.k,
        max_k=config.max_k,
        confidence_level=config.confidence_level,
        custom_config={"default_k": config.k, "code": code},
    )
    model = builder.outputs["model"]
    baseline = nodes["last_blessed"] = last_blessed(config, model)
    evaluator = nodes["evaluator"] = tfx.components.Evaluator(
        examples=examples,
        model=model,
        baseline_model=baseline.outputs["model"],
        example_splits=["test"],
        eval_config=evaluation_config(config),
    )
    infra_validator = nodes["infra_validator"] = components.InfraValidator(
        model=model,
        examples=examples,
        model_name=config.model_name,
        split="test",
    )
    nodes["pusher"] = push_node(places, evaluator, infra_validator)
    return make_pipeline(config, nodes.values())


def evaluation_config(config):
    """Says what the Evaluator measures, and what it blesses."""
    bound = overall_bound(
        at_least=config.min_recall, may_fall_by=config.max_recall_fall
    )
    metrics = [
        metric_config("RecallAtK", bound, name="recall", k=config.k),
        metric_config("MeanReciprocalRank", name="mrr", k=config.max_k),
    ]
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(signature_name="examples", label_key="target")
        ],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
    )
