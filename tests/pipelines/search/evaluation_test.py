"""What the Evaluator blesses, on searches whose answers are known."""

import pathlib

import pytest
import tensorflow as tf
from tfx.components.evaluator import executor
from tfx.types import standard_artifacts
from tfx.utils import json_utils
from tfx.utils import proto_utils

from keras_moe.components import read_evaluation
from keras_moe.components import read_failures
from keras_moe.orchestration import text_example
from keras_moe.orchestration import write_records
from pipelines.search.configs import EvaluationConfig
from pipelines.search.configs import IndexConfig
from pipelines.search.evaluation import evaluation_config
from tests.components.artifacts_of import artifact

pytestmark = pytest.mark.tfx

SYNSETS = ["dog", "cat"]
INDEX = IndexConfig(k=1, max_k=3)


class Finds(tf.Module):
    """Gives one answer to every query."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def examples(self, examples):
        count = tf.size(examples)
        return {
            "identifiers": tf.tile([self.answer], [count, 1]),
            "scores": tf.ones([count, 3]),
            "status": tf.fill([count], "ok"),
        }


def evaluate(tmp_path, candidate, baseline=None):
    def model(name, answer):
        module = Finds(answer)
        path = tmp_path / name / "Format-Serving"
        signatures = {"examples": module.examples}
        tf.saved_model.save(module, str(path), signatures)
        return artifact(standard_artifacts.Model, tmp_path / name)

    examples = artifact(
        standard_artifacts.Examples,
        tmp_path / "examples",
        ["test"],
        payload_format="FORMAT_TF_EXAMPLE",
    )
    write_records(
        pathlib.Path(examples.uri, "Split-test", "data_tfrecord.gz"),
        [text_example(synset=name, gloss=name) for name in SYNSETS],
    )
    inputs = {"examples": [examples], "model": [model("new", candidate)]}
    if baseline is not None:
        inputs["baseline_model"] = [model("last", baseline)]
    outputs = {
        "evaluation": [
            artifact(standard_artifacts.ModelEvaluation, tmp_path / "eval")
        ],
        "blessing": [
            artifact(standard_artifacts.ModelBlessing, tmp_path / "blessing")
        ],
    }
    config = EvaluationConfig(min_mrr=0.3, min_recall=0.4, max_fall=0.05)
    executor.Executor().Do(
        inputs,
        outputs,
        {
            "eval_config": proto_utils.proto_to_json(
                evaluation_config(config, INDEX)
            ),
            "example_splits": json_utils.dumps(["test"]),
        },
    )
    blessed = outputs["blessing"][0].get_int_custom_property("blessed")
    uri = outputs["evaluation"][0].uri
    return blessed, read_evaluation(uri)["overall"], read_failures(uri)


def test_figures_of_a_good_search(tmp_path):
    blessed, figures, failures = evaluate(tmp_path, ["dog", "ant", "cat"])
    # Of two queries one is found first, the other third.
    assert figures["mrr"] == pytest.approx((1 + 1 / 3) / 2)
    assert figures["recall"] == pytest.approx(1 / 2)
    assert blessed and not failures


# Each of these evaluations starts Beam.
@pytest.mark.large
def test_what_is_worse_than_the_last_blessed_is_refused(tmp_path):
    blessed, figures, failures = evaluate(
        tmp_path, ["dog", "ant", "bee"], ["dog", "cat", "bee"]
    )
    assert figures["mrr"] == pytest.approx(1 / 2)
    assert not blessed
    (failure,) = failures
    assert failure == (
        "mrr (overall) differs from the last blessed model's by -0.2500, and "
        "at least -0.0500 is accepted"
    )


@pytest.mark.parametrize(
    "last", [["dog", "cat", "bee"], pytest.param(None, marks=pytest.mark.large)]
)
def test_a_search_that_finds_nothing_is_refused(tmp_path, last):
    blessed, figures, failures = evaluate(tmp_path, ["", "", ""], last)
    assert figures["mrr"] == figures["recall"] == 0.0
    assert not blessed
    # Both figures are below the bounds, and below those of the last blessed.
    fallen = [f for f in failures if "the last blessed model's" in f]
    assert len(fallen) == (2 if last else 0)
    assert len(failures) == 2 + len(fallen)
    assert not last or fallen[0] == (
        "mrr (overall) differs from the last blessed model's by -0.7500, and "
        "at least -0.0500 is accepted"
    )
