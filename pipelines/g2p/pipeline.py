"""The TFX pipeline: from split records to a pushed, certified student."""

import json
import pathlib
from typing import Any

from tfx import v1 as tfx
from tfx.types import standard_artifacts

import pipelines
from keras_moe import components
from keras_moe.generation import EarlyExitPolicy
from keras_moe.orchestration import Places
from keras_moe.orchestration import Span
from keras_moe.orchestration import example_nodes
from keras_moe.orchestration import find_places
from keras_moe.orchestration import last_blessed
from keras_moe.orchestration import make_pipeline
from keras_moe.orchestration import push_node
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
    """The nodes of the data: checked examples, and what Transform makes."""
    schema_file = config.data.schema_file
    if schema_file is not None:
        schema_file = places.file(
            "schema_file", schema_file, _PROJECT, _PROJECT_CODE
        )
    nodes = example_nodes(places, schema_file, span)
    transform = tfx.components.Transform(
        examples=nodes["example_gen"].outputs["examples"],
        schema=nodes["schema_gen"].outputs["schema"],
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
    transform.add_upstream_node(nodes["gate"])
    return nodes | {"transform": transform}


def _models(config: PipelineConfig, nodes: Nodes) -> Nodes:
    """The nodes that make models: teacher, student, and what is served."""
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
        made["warm_start"] = _warm_start(
            examples, json.dumps(config.data.fractions)
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
    made["calibrator"] = _calibrator(
        config,
        distiller.outputs["student"],
        trainer.outputs["model"],
        examples,
        graph,
    )
    return made


def _calibrator(
    config: PipelineConfig,
    student: Any,
    teacher: Any,
    examples: Any,
    graph: Any,
) -> Any:
    """The node that certifies what is served: exits, or a cascade."""
    section = config.cascade if config.cascade.enabled else config.exits
    shared: dict[str, Any] = {
        "examples": examples,
        "transform_graph": graph,
        "tolerance": section.tolerance,
        "confidence_level": section.confidence_level,
        "max_length": text.MAX_PHONEMES,
        "splits": ["calibration"],
        "custom_config": {
            "keep_stress": config.data.keep_stress,
            "max_words": section.max_words,
            "batch_sizes": list(config.serving.batch_sizes),
            "lengths": list(config.serving.lengths),
            "code": fingerprint.trainer_fingerprint(),
        },
    }
    if config.cascade.enabled:
        return components.CascadeCalibrator(
            small=student,
            large=teacher,
            task_fn=f"{_MODULES}.cascade.cascade_task",
            budget=config.cascade.budget,
            target=config.cascade.target,
            shares=config.cascade.shares,
            # Trainings are watched on these words, and a Tuner chooses by
            # them; no weight has seen them.
            fit_splits=["validation"],
            trained_on=["train"],
            **shared,
        )
    return components.ExitCalibrator(
        student=student,
        task_fn=f"{_MODULES}.exits.exit_task",
        policy=EarlyExitPolicy(config.exits.confidence),
        thresholds=config.exits.thresholds,
        **shared,
    )


def _gates(config: PipelineConfig, places: Places, nodes: Nodes) -> Nodes:
    """The nodes that judge the certified model, and the one that pushes it."""
    if config.cluster is not None and config.infra_image_tags:
        raise ValueError(
            "`infra_image_tags` needs a container engine, which a component in "
            "a cluster has not: leave it out, for the embedded server. "
            f"Received: {', '.join(config.infra_image_tags)}"
        )
    examples = nodes["example_gen"].outputs["examples"]
    calibrator = nodes["calibrator"]
    model = calibrator.outputs["model"]
    baseline = last_blessed(config, model)
    evaluator = tfx.components.Evaluator(
        examples=examples,
        model=model,
        baseline_model=baseline.outputs["model"],
        example_splits=["test"],
        eval_config=evaluation_config(
            config.evaluation, config.cascade.enabled
        ),
    )
    infra_validator = components.InfraValidator(
        model=model,
        examples=examples,
        model_name=MODEL_NAME,
        split="test",
        num_examples=config.infra_requests,
        max_loading_seconds=config.loading_seconds,
        image_tags=config.infra_image_tags,
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
        "last_blessed": baseline,
        "evaluator": evaluator,
        "infra_validator": infra_validator,
        "report": report,
        "pusher": push_node(places, evaluator, infra_validator),
    }


def _warm_start(examples: Any, splits: str) -> tfx.dsl.Resolver:
    """Teacher and student that were the last blessed before examples were."""
    return tfx.dsl.Resolver(
        strategy_class=components.BlessedBefore,
        config={"splits": splits},
        before=examples,
        model=tfx.dsl.Channel(type=standard_artifacts.Model),
        teacher=tfx.dsl.Channel(type=standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("warm_start")
