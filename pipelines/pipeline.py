"""The TFX pipeline: from split records to a pushed model."""

import json

from tensorflow_model_analysis.proto import config_pb2
from tfx import v1 as tfx

from pipelines import fingerprint
from pipelines.configs import PIPELINE_NAME
from pipelines.configs import PipelineConfig
from pipelines.data.splits import SPLITS
from pipelines.modules.preprocessing import PRONUNCIATIONS

# The names under which evaluation results appear.
PHONEME_ERROR_RATE = "phoneme_error_rate"
WORD_ERROR_RATE = "word_error_rate"
WORD_ERROR_RATE_STRICT = "word_error_rate_strict"

_METRICS_MODULE = "keras_moe.components"


def create_pipeline(config: PipelineConfig) -> tfx.dsl.Pipeline:
    """Builds the pipeline of a configuration.

    Args:
        config: The configuration. Its data must have been prepared.
    """
    example_gen = tfx.components.ImportExampleGen(
        input_base=str(config.data_dir),
        input_config=tfx.proto.Input(
            splits=[
                tfx.proto.Input.Split(name=split, pattern=f"{split}/*")
                for split in SPLITS
            ]
        ),
    )
    examples = example_gen.outputs["examples"]
    # Calibration and test stay unseen until they are used for what they are.
    held_out = ["calibration", "test"]
    statistics_gen = tfx.components.StatisticsGen(
        examples=examples, exclude_splits=held_out
    )
    schema_gen = tfx.components.SchemaGen(
        statistics=statistics_gen.outputs["statistics"],
        infer_feature_shape=True,
        exclude_splits=["validation", *held_out],
    )
    example_validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"],
        schema=schema_gen.outputs["schema"],
        exclude_splits=held_out,
    )
    transform = tfx.components.Transform(
        examples=examples,
        schema=schema_gen.outputs["schema"],
        preprocessing_fn="pipelines.modules.preprocessing.preprocessing_fn",
        splits_config=tfx.proto.SplitsConfig(
            analyze=["train"], transform=["train", "validation"]
        ),
        # StatisticsGen has them; a second pass over the ids tells nothing new.
        disable_statistics=True,
        custom_config={
            "keep_stress": config.keep_stress,
            "code": fingerprint.preprocessing_fingerprint(),
        },
    )
    trainer = tfx.components.Trainer(
        run_fn="pipelines.modules.trainer.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["validation"]),
        custom_config={
            "preset": config.preset,
            "keep_stress": config.keep_stress,
            "training": dict(config.training),
            "code": fingerprint.trainer_fingerprint(),
        },
    )
    evaluator = tfx.components.Evaluator(
        examples=examples,
        model=trainer.outputs["model"],
        example_splits=["test"],
        eval_config=evaluation_config(config.max_phoneme_error_rate),
    )
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(
                base_directory=str(config.serving_dir)
            )
        ),
    )
    return tfx.dsl.Pipeline(
        pipeline_name=PIPELINE_NAME,
        pipeline_root=str(config.pipeline_root),
        metadata_connection_config=(
            tfx.orchestration.metadata.sqlite_metadata_connection_config(
                str(config.metadata_path)
            )
        ),
        components=[
            example_gen,
            statistics_gen,
            schema_gen,
            example_validator,
            transform,
            trainer,
            evaluator,
            pusher,
        ],
        enable_cache=config.enable_cache,
        beam_pipeline_args=list(config.beam_pipeline_args),
    )


def evaluation_config(
    max_phoneme_error_rate: float,
) -> config_pb2.EvalConfig:
    """Says what the Evaluator measures, and what it blesses.

    Args:
        max_phoneme_error_rate: The bound, on the whole split: TFMA would hold
            a plain threshold against every slice.
    """
    overall = config_pb2.SlicingSpec()
    bound = config_pb2.PerSliceMetricThreshold(
        slicing_specs=[overall],
        threshold=config_pb2.MetricThreshold(
            value_threshold=config_pb2.GenericValueThreshold(
                upper_bound={"value": max_phoneme_error_rate}
            )
        ),
    )
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                signature_name="examples",
                label_key=PRONUNCIATIONS,
            )
        ],
        slicing_specs=[overall],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=[
                    _metric("PhonemeErrorRate", PHONEME_ERROR_RATE, bound),
                    _metric("WordErrorRate", WORD_ERROR_RATE),
                    _metric(
                        "WordErrorRate", WORD_ERROR_RATE_STRICT, mode="strict"
                    ),
                ]
            )
        ],
    )


def _metric(
    class_name: str,
    name: str,
    *bounds: config_pb2.PerSliceMetricThreshold,
    **arguments: str,
) -> config_pb2.MetricConfig:
    arguments["name"] = name
    arguments["prediction_key"] = "phonemes"
    arguments["revision"] = fingerprint.evaluation_fingerprint()
    return config_pb2.MetricConfig(
        class_name=class_name,
        module=_METRICS_MODULE,
        config=json.dumps(arguments),
        per_slice_thresholds=bounds,
    )
