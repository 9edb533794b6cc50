import json

import numpy as np
import pytest
from tensorflow_model_analysis.metrics import metric_types

from keras_moe import components

pytestmark = pytest.mark.tfx

LAYERS = [[2, 1, 1, 0], [2, 2, 0, 0]]


def evaluate(metric, rows, names=("",)):
    """Returns model name to value; several models see the rows in turn."""
    found = {}
    for computation in metric.computations(model_names=list(names)):
        combiner = computation.combiner
        sums = combiner.create_accumulator()
        for row in rows:
            outputs = {"exit_layer": np.array(row), "phonemes": np.array([b""])}
            if len(names) > 1:
                deeper = outputs | {"exit_layer": 2 * np.array(row)}
                outputs = dict(zip(names, (outputs, deeper), strict=True))
            inputs = metric_types.StandardMetricInputs(
                {
                    "labels": np.array([b""], object),
                    "predictions": outputs,
                    "example_weights": np.array([1.0]),
                }
            )
            sums = combiner.add_input(sums, inputs)
        for key, value in combiner.extract_output(sums).items():
            found[key.model_name] = value
    return found


def test_depth_is_a_mean_over_tokens_and_cost_over_answers():
    mean = evaluate(components.MeanExitLayer(), LAYERS)
    assert mean[""] == pytest.approx(8 / 5)
    cost = evaluate(components.LayersPerAnswer(), LAYERS)
    assert cost[""] == pytest.approx(8 / 2)


def test_each_model_is_measured_by_its_own_outputs():
    names = ("candidate", "baseline")
    found = evaluate(components.MeanExitLayer(), LAYERS, names)
    assert found["baseline"] == pytest.approx(2 * found["candidate"])


def test_found_by_name_as_the_evaluator_does():
    from tensorflow_model_analysis.metrics import metric_specs
    from tensorflow_model_analysis.proto import config_pb2

    config = json.dumps({"name": "cost", "revision": "1"})
    spec = config_pb2.MetricsSpec(
        metrics=[
            config_pb2.MetricConfig(
                class_name="LayersPerAnswer",
                module="keras_moe.components",
                config=config,
            )
        ]
    )
    computations = metric_specs.to_computations(
        [spec], config_pb2.EvalConfig(model_specs=[config_pb2.ModelSpec()])
    )
    assert "cost" in {key.name for c in computations for key in c.keys}
