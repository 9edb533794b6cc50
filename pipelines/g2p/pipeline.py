"""The TFX pipeline: from split records to a pushed, certified student."""

import json
import pathlib
from typing import Any

from tfx import v1 as tfx
from tfx.types import standard_artifacts

import pipelines
from keras_moe import components
from keras_moe.generation import EarlyExitPolicy
from keras_moe.orchestration import SPLITS
from keras_moe.orchestration import Places
from keras_moe.orchestration import Span
from keras_moe.orchestration import find_places
from keras_moe.orchestration import make_pipeline
from pipelines.g2p import fingerprint
from pipelines.g2p.configs import MODEL_NAME
from pipelines.g2p.configs import PipelineConfig
from pipelines.g2p.evaluation import PHONEME_ERROR_RATE
from pipelines.g2p.evaluation import evaluation_config
from pipelines.g2p.modules import text

_MODULES = "pipelines.g2p.modules"
# The repository's root; its folder `pipelines/` goes into the image of the
# components.
_PROJECT = pathlib.Path(pipelines.__file__).parents[1]
_PROJECT_CODE = "pipelines"
# No component before ExitCalibrator and Evaluator sees calibration and test.
_HELD_OUT = ["calibration", "test"]

Nodes = dict[str, Any]


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
    nodes = _data(config, places, span)
    nodes |= _models(config, nodes)
    nodes |= _gates(config, places, nodes)
    return make_pipeline(config, nodes.values())


def _data(config: PipelineConfig, places: Places, span: Span | None) -> Nodes:
    """The nodes of the data: examples, statistics, schema, gate, transform."""
    static = None
    if span is not None:
        static = tfx.proto.RangeConfig(
            static_range=tfx.proto.StaticRange(
                start_span_number=span.number, end_span_number=span.number
            )
        )
    example_gen = tfx.components.ImportExampleGen(
        input_base=places.data_dir,
        input_config=tfx.proto.Input(
            splits=[
                tfx.proto.Input.Split(
                    name=split, pattern=f"span-{{SPAN}}/{split}/*"
                )
                for split in SPLITS
            ]
        ),
        range_config=static,
    )
    statistics_gen = tfx.components.StatisticsGen(
        examples=example_gen.outputs["examples"], exclude_splits=_HELD_OUT
    )
    if config.data.schema_file is None:
        schema_gen = tfx.components.SchemaGen(
            statistics=statistics_gen.outputs["statistics"],
            infer_feature_shape=True,
            exclude_splits=["validation", *_HELD_OUT],
        )
    else:
        schema_gen = tfx.components.ImportSchemaGen(
            schema_file=places.file(
                "schema_file", config.data.schema_file, _PROJECT, _PROJECT_CODE
            )
        )
    example_validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"],
        schema=schema_gen.outputs["schema"],
        exclude_splits=_HELD_OUT,
    )
    gate = components.AnomalyGate(
        anomalies=example_validator.outputs["anomalies"]
    )
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        preprocessing_fn=f"{_MODULES}.preprocessing.preprocessing_fn",
        splits_config=tfx.proto.SplitsConfig(
            analyze=["train"], transform=["train", "validation"]
        ),
        # StatisticsGen has computed statistics already; statistics of ids tell
        # nothing new.
        disable_statistics=True,
        custom_config={
            "keep_stress": config.data.keep_stress,
            "code": fingerprint.preprocessing_fingerprint(),
        },
    )
    transform.add_upstream_node(gate)
    return {
        "example_gen": example_gen,
        "statistics_gen": statistics_gen,
        "schema_gen": schema_gen,
        "example_validator": example_validator,
        "gate": gate,
        "transform": transform,
    }


def _models(config: PipelineConfig, nodes: Nodes) -> Nodes:
    """The nodes that train: teacher, student, certified student."""
    made: Nodes = {}
    examples = nodes["example_gen"].outputs["examples"]
    transformed = nodes["transform"].outputs["transformed_examples"]
    graph = nodes["transform"].outputs["transform_graph"]
    shared = {
        "keep_stress": config.data.keep_stress,
        "warm_start_share": config.warm_start_share,
        # Read by the next warm start, which must not learn what is held out.
        "splits": json.dumps(config.data.fractions),
        "code": fingerprint.trainer_fingerprint(),
    }
    splits = {
        "train_args": tfx.proto.TrainArgs(splits=["train"]),
        "eval_args": tfx.proto.EvalArgs(splits=["validation"]),
    }
    teacher_config = {
        **shared,
        "preset": config.teacher.preset,
        "training": vars(config.teacher.training),
        "strategy": config.teacher.strategy,
    }
    warm: dict[str, Any] = {}
    # A cluster's resolvers know the last blessed model alone. That is another
    # model after each run, so unchanged data would be trained on for ever.
    if config.warm_start and config.cluster is None:
        made["warm_start"] = _blessed_before(
            "warm_start", examples, json.dumps(config.data.fractions)
        )
        warm = made["warm_start"].outputs
    tuned = None
    if config.teacher.tuner_trials:
        made["tuner"] = tfx.components.Tuner(
            examples=transformed,
            transform_graph=graph,
            tuner_fn=f"{_MODULES}.tuner.tuner_fn",
            **splits,
            custom_config={
                **teacher_config,
                "trials": config.teacher.tuner_trials,
            },
        )
        tuned = made["tuner"].outputs["best_hyperparameters"]
    trainer = made["trainer"] = tfx.components.Trainer(
        run_fn=f"{_MODULES}.trainer.run_fn",
        examples=transformed,
        transform_graph=graph,
        base_model=warm.get("teacher"),
        hyperparameters=tuned,
        **splits,
        custom_config=teacher_config,
    )
    distiller = made["distiller"] = components.Distiller(
        run_fn=f"{_MODULES}.student.run_fn",
        examples=transformed,
        teacher=trainer.outputs["model"],
        base_student=warm.get("model"),
        transform_graph=graph,
        eval_splits=["validation"],
        custom_config={
            **shared,
            "layers": {
                "num_encoder_layers": config.student.num_encoder_layers,
                "num_decoder_layers": config.student.num_decoder_layers,
            },
            "student_loss_weight": config.student.student_loss_weight,
            "training": vars(config.student.training),
        },
    )
    made["exit_calibrator"] = components.ExitCalibrator(
        student=distiller.outputs["student"],
        examples=examples,
        transform_graph=graph,
        task_fn=f"{_MODULES}.exits.exit_task",
        policy=EarlyExitPolicy(config.exits.confidence),
        thresholds=config.exits.thresholds,
        tolerance=config.exits.tolerance,
        confidence_level=config.exits.confidence_level,
        max_length=text.MAX_PHONEMES,
        splits=["calibration"],
        custom_config={
            "keep_stress": config.data.keep_stress,
            "max_words": config.exits.max_words,
            "batch_sizes": list(config.serving.batch_sizes),
            "lengths": list(config.serving.lengths),
            "code": fingerprint.trainer_fingerprint(),
        },
    )
    return made


def _gates(config: PipelineConfig, places: Places, nodes: Nodes) -> Nodes:
    """The nodes that judge the certified model, and the one that pushes it."""
    if config.cluster is not None and config.infra_image_tags:
        raise ValueError(
            "`infra_image_tags` needs a container engine, which a component in "
            "a cluster has not: leave it out, for the embedded server. "
            f"Received: {', '.join(config.infra_image_tags)}"
        )
    examples = nodes["example_gen"].outputs["examples"]
    calibrator = nodes["exit_calibrator"]
    model = calibrator.outputs["model"]
    if config.cluster is None:
        last_blessed = _blessed_before("last_blessed", model)
    else:
        last_blessed = _last_blessed("last_blessed")
    evaluator = tfx.components.Evaluator(
        examples=examples,
        model=model,
        baseline_model=last_blessed.outputs["model"],
        example_splits=["test"],
        eval_config=evaluation_config(config.evaluation),
    )
    infra_validator = components.InfraValidator(
        model=model,
        examples=examples,
        model_name=MODEL_NAME,
        split="test",
        num_examples=config.infra_requests,
        image_tags=config.infra_image_tags,
    )
    pusher = components.Pusher(
        # Without `model`, the one of `infra_blessing` is pushed, which has the
        # warm-up requests.
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=infra_validator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(
                base_directory=places.serving_dir
            )
        ),
    )
    report = components.RouterReport(
        teacher=nodes["trainer"].outputs["model"],
        examples=nodes["transform"].outputs["transformed_examples"],
        inputs_fn=f"{_MODULES}.routing.teacher_inputs",
        model_name=MODEL_NAME,
        splits=["validation"],
        model=model,
        certificate=calibrator.outputs["certificate"],
        evaluation=evaluator.outputs["evaluation"],
        ranked_by=PHONEME_ERROR_RATE,
        custom_config={"code": fingerprint.report_fingerprint()},
    )
    return {
        "last_blessed": last_blessed,
        "evaluator": evaluator,
        "infra_validator": infra_validator,
        "report": report,
        "pusher": pusher,
    }


def _blessed_before(
    name: str, before: Any, splits: str | None = None
) -> tfx.dsl.Resolver:
    """The model that was the last blessed one before an artifact existed."""
    models = {"model": tfx.dsl.Channel(type=standard_artifacts.Model)}
    if name == "warm_start":
        models["teacher"] = tfx.dsl.Channel(type=standard_artifacts.Model)
    return tfx.dsl.Resolver(
        strategy_class=components.BlessedBefore,
        # TFX keeps no `None` among parameters.
        config={} if splits is None else {"splits": splits},
        before=before,
        model_blessing=tfx.dsl.Channel(type=standard_artifacts.ModelBlessing),
        **models,
    ).with_id(name)


def _last_blessed(name: str) -> tfx.dsl.Resolver:
    """The last blessed model, as a cluster can find it."""
    return tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=standard_artifacts.ModelBlessing),
    ).with_id(name)
