"""What the Evaluator measures, and what it blesses."""

import functools

from tensorflow_model_analysis.proto import config_pb2

from keras_moe.components import metric_config
from keras_moe.components import overall_bound
from pipelines.search import fingerprint
from pipelines.search.configs import EvaluationConfig
from pipelines.search.configs import IndexConfig
from pipelines.search.modules.features import SYNSET

# The names under which evaluation results appear.
MRR = "mrr"
RECALL = "recall"


def evaluation_config(
    config: EvaluationConfig, index: IndexConfig
) -> config_pb2.EvalConfig:
    """Says what the Evaluator measures, and what it blesses.

    What is measured is the search as it is served, with the index: a gloss of
    the test split is the query, its synset the one answer that counts.

    Args:
        config: The bounds.
        index: How many answers count.
    """
    metric = functools.partial(
        metric_config, revision=fingerprint.evaluation_fingerprint()
    )
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(signature_name="examples", label_key=SYNSET)
        ],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=[
                    metric(
                        "MeanReciprocalRank",
                        overall_bound(
                            at_least=config.min_mrr,
                            may_fall_by=config.max_fall,
                        ),
                        name=MRR,
                        k=index.max_k,
                    ),
                    metric(
                        "RecallAtK",
                        overall_bound(
                            at_least=config.min_recall,
                            may_fall_by=config.max_fall,
                        ),
                        name=RECALL,
                        k=index.k,
                    ),
                ]
            )
        ],
    )
