"""The TFX pipeline: from pairs of texts to a pushed, certified model."""

import pathlib

from tensorflow_model_analysis.proto import config_pb2
from tfx import v1 as tfx

from keras_moe import components
from keras_moe.components import metric_config
from keras_moe.components import overall_bound
from keras_moe.generation import EarlyExitPolicy
from keras_moe.orchestration import example_nodes
from keras_moe.orchestration import find_places
from keras_moe.orchestration import last_blessed
from keras_moe.orchestration import make_pipeline
from keras_moe.orchestration import push_node
from keras_moe.orchestration import training_fingerprint

PROJECT = pathlib.Path(__file__).parent
# From the safest on. No confidence is above 1, so that with the first one every
# unit passes through all layers; what is certified is as fast as it may be.
THRESHOLDS = (1.1, 0.99, 0.95, 0.9, 0.8, 0.7, 0.5)


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
    shared = {
        "texts": config.columns(),
        # TFX's cache looks at parameters alone: an edit of code must be one.
        "code": training_fingerprint(__package__, "keras_moe.components"),
    }
    transform = nodes["transform"] = tfx.components.Transform(
        examples=examples,
        schema=nodes["schema_gen"].outputs["schema"],
        preprocessing_fn=f"{__package__}.model.preprocessing_fn",
        splits_config=tfx.proto.SplitsConfig(
            analyze=["train"], transform=["train", "validation"]
        ),
        disable_statistics=True,
        custom_config=shared,
    )
    transform.add_upstream_node(nodes["gate"])
    trainer = nodes["trainer"] = tfx.components.Trainer(
        run_fn=f"{__package__}.model.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["validation"]),
        custom_config={
            **shared,
            "training": vars(config.training),
            "batch_size": config.batch_size,
        },
    )
    calibrator = nodes["calibrator"] = components.ExitCalibrator(
        student=trainer.outputs["model"],
        examples=examples,
        transform_graph=transform.outputs["transform_graph"],
        task_fn=f"{__package__}.model.exit_task",
        policy=EarlyExitPolicy("softmax"),
        thresholds=THRESHOLDS,
        tolerance=config.tolerance,
        confidence_level=config.confidence_level,
        max_length=config.target.max_length + 1,
        custom_config=shared,
    )
    model = calibrator.outputs["model"]
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
    answer = {
        "prediction_key": "target",
        "separator": " " if config.target.unit == "word" else "",
    }
    bound = overall_bound(
        at_most=config.max_error_rate,
        may_rise_by=config.max_error_rate_increase,
    )
    metrics = [
        metric_config("SymbolErrorRate", bound, name="error_rate", **answer),
        metric_config("SequenceErrorRate", name="wrong_answers", **answer),
        metric_config("MeanExitLayer", name="mean_exit_layer"),
    ]
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(signature_name="examples", label_key="target")
        ],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
    )
