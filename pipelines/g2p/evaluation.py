"""What the Evaluator measures, and what it blesses."""

import functools

from tensorflow_model_analysis.proto import config_pb2

from keras_moe.components import metric_config
from keras_moe.components import overall_bound
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
DEFERRAL_SHARE = "deferral_share"

_SLICES = ("word_length", "letters")


def evaluation_config(
    config: EvaluationConfig, cascade: bool = False
) -> config_pb2.EvalConfig:
    """Says what the Evaluator measures, and what it blesses.

    Args:
        config: The bounds.
        cascade: Whether the model is one, and has no exits.
    """
    metric = functools.partial(
        metric_config, revision=fingerprint.evaluation_fingerprint()
    )
    error_rate = functools.partial(
        metric,
        prediction_key=PHONEMES,
        separator=" ",
        alternatives_separator=VARIANT_SEPARATOR,
    )
    depth = [
        metric("MeanExitLayer", name=MEAN_EXIT_LAYER),
        metric("LayersPerAnswer", name=LAYERS_PER_ANSWER),
    ]
    if cascade:
        depth = [metric("DeferralShare", name=DEFERRAL_SHARE)]
    bound = overall_bound(
        at_most=config.max_phoneme_error_rate,
        may_rise_by=config.max_phoneme_error_rate_increase,
    )
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                signature_name="examples",
                label_key=PRONUNCIATIONS,
            )
        ],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            *(config_pb2.SlicingSpec(feature_keys=[key]) for key in _SLICES),
        ],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=[
                    error_rate(
                        "SymbolErrorRate", bound, name=PHONEME_ERROR_RATE
                    ),
                    error_rate("SequenceErrorRate", name=WORD_ERROR_RATE),
                    error_rate(
                        "SequenceErrorRate",
                        name=WORD_ERROR_RATE_STRICT,
                        mode="strict",
                    ),
                    *depth,
                ]
            )
        ],
    )
