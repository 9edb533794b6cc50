"""What the Evaluator measures, and what it blesses."""

import json

from tensorflow_model_analysis.proto import config_pb2

from pipelines.g2p import fingerprint
from pipelines.g2p.configs import EvaluationConfig
from pipelines.g2p.modules.preprocessing import PHONEMES
from pipelines.g2p.modules.preprocessing import PRONUNCIATIONS
from pipelines.g2p.phonemes import VARIANT_SEPARATOR

# The names under which evaluation results appear.
PHONEME_ERROR_RATE = "phoneme_error_rate"
WORD_ERROR_RATE = "word_error_rate"
WORD_ERROR_RATE_STRICT = "word_error_rate_strict"
MEAN_EXIT_LAYER = "mean_exit_layer"
LAYERS_PER_ANSWER = "layers_per_answer"

_METRICS_MODULE = "keras_moe.components"
_SLICES = ("word_length", "letters")


def evaluation_config(config: EvaluationConfig) -> config_pb2.EvalConfig:
    """Says what the Evaluator measures, and what it blesses.

    Bounds hold for the whole split: TFMA would hold a plain threshold against
    every slice. The one against the last blessed model counts once there is
    one.

    Args:
        config: The bounds.
    """
    overall = config_pb2.SlicingSpec()
    bound = config_pb2.PerSliceMetricThreshold(
        slicing_specs=[overall],
        threshold=config_pb2.MetricThreshold(
            value_threshold=config_pb2.GenericValueThreshold(
                upper_bound={"value": config.max_phoneme_error_rate}
            ),
            change_threshold=config_pb2.GenericChangeThreshold(
                direction=config_pb2.MetricDirection.LOWER_IS_BETTER,
                absolute={"value": config.max_phoneme_error_rate_increase},
            ),
        ),
    )
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                signature_name="examples",
                label_key=PRONUNCIATIONS,
            )
        ],
        slicing_specs=[
            overall,
            *(config_pb2.SlicingSpec(feature_keys=[key]) for key in _SLICES),
        ],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=[
                    _error_rate("SymbolErrorRate", PHONEME_ERROR_RATE, bound),
                    _error_rate("SequenceErrorRate", WORD_ERROR_RATE),
                    _error_rate(
                        "SequenceErrorRate",
                        WORD_ERROR_RATE_STRICT,
                        mode="strict",
                    ),
                    _metric("MeanExitLayer", MEAN_EXIT_LAYER),
                    _metric("LayersPerAnswer", LAYERS_PER_ANSWER),
                ]
            )
        ],
    )


def _error_rate(
    class_name: str,
    name: str,
    *bounds: config_pb2.PerSliceMetricThreshold,
    **arguments: str,
) -> config_pb2.MetricConfig:
    return _metric(
        class_name,
        name,
        *bounds,
        prediction_key=PHONEMES,
        separator=" ",
        alternatives_separator=VARIANT_SEPARATOR,
        **arguments,
    )


def _metric(
    class_name: str,
    name: str,
    *bounds: config_pb2.PerSliceMetricThreshold,
    **arguments: str,
) -> config_pb2.MetricConfig:
    arguments["name"] = name
    arguments["revision"] = fingerprint.evaluation_fingerprint()
    return config_pb2.MetricConfig(
        class_name=class_name,
        module=_METRICS_MODULE,
        config=json.dumps(arguments),
        per_slice_thresholds=bounds,
    )
