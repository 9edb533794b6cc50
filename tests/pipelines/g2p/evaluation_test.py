"""What the Evaluator blesses, on models whose answers are known."""

import pathlib

import pytest
import tensorflow as tf
from tfx.components.evaluator import executor
from tfx.types import standard_artifacts
from tfx.utils import json_utils
from tfx.utils import proto_utils

from keras_moe.components import read_evaluation
from keras_moe.components import read_failures
from keras_moe.orchestration import write_records
from pipelines.g2p.configs import EvaluationConfig
from pipelines.g2p.data.prepare import word_example
from pipelines.g2p.evaluation import evaluation_config
from tests.components.artifacts_of import artifact

pytestmark = pytest.mark.tfx

WORDS = {"be": "B IY", "abbey": "AE B IY"}


class Says(tf.Module):
    """Gives one answer to every word."""

    def __init__(self, phonemes):
        super().__init__()
        self.phonemes = phonemes

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def examples(self, examples):
        ones = tf.ones_like(examples, tf.int32)
        layers = tf.stack([ones, 2 * ones, 0 * ones], axis=1)
        return {
            "phonemes": tf.fill(tf.shape(examples), self.phonemes),
            "exit_layer": layers,
        }


def evaluate(tmp_path, candidate, baseline=None):
    def model(name, phonemes):
        module = Says(phonemes)
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
        [word_example(word, (answer,)) for word, answer in WORDS.items()],
    )
    inputs = {"examples": [examples], "model": [model("new", candidate)]}
    if baseline is not None:
        inputs["baseline_model"] = [model("last", baseline)]
    outputs = {
        "evaluation": [
            artifact(standard_artifacts.ModelEvaluation, tmp_path / "figures")
        ],
        "blessing": [
            artifact(standard_artifacts.ModelBlessing, tmp_path / "blessing")
        ],
    }
    config = evaluation_config(
        EvaluationConfig(
            max_phoneme_error_rate=0.9, max_phoneme_error_rate_increase=0.1
        )
    )
    executor.Executor().Do(
        inputs,
        outputs,
        {
            "eval_config": proto_utils.proto_to_json(config),
            "example_splits": json_utils.dumps(["test"]),
        },
    )
    uri = outputs["evaluation"][0].uri
    blessed = outputs["blessing"][0].get_int_custom_property("blessed")
    return read_evaluation(uri), read_failures(uri), blessed


def test_figures_of_slices(tmp_path):
    # No worse than the last that was blessed.
    figures, failures, blessed = evaluate(tmp_path, "B IY", "B IY")
    assert blessed == 1 and not failures
    overall = figures["overall"]
    assert overall["phoneme_error_rate"] == pytest.approx(1 / 5)
    assert overall["word_error_rate"] == pytest.approx(1 / 2)
    assert overall["mean_exit_layer"] == pytest.approx(1.5)
    assert overall["layers_per_answer"] == pytest.approx(3.0)
    assert figures["word_length=1-4"]["word_error_rate"] == 0.0
    assert figures["word_length=5-7"]["word_error_rate"] == 1.0
    assert figures["letters=a"]["word_error_rate"] == 1.0
    # In both words.
    assert figures["letters=b"] == pytest.approx(overall)


# Each of these evaluations starts Beam.
large = pytest.mark.large


@pytest.mark.parametrize("baseline", ["B IY", pytest.param(None, marks=large)])
def test_too_many_errors(tmp_path, baseline):
    figures, failures, blessed = evaluate(tmp_path, "K", baseline)
    assert blessed == 0
    # The figures are the candidate's.
    assert figures["overall"]["phoneme_error_rate"] == pytest.approx(1.0)
    assert any(
        "phoneme_error_rate (overall) is 1.0000, and at most 0.9000" in failure
        for failure in failures
    )
    # Each bound that does not hold is named.
    assert len(failures) == (1 if baseline is None else 2)
    assert baseline is None or any(
        "differs from the last blessed model's by 0.8000, and at most 0.1000"
        in failure
        for failure in failures
    )


@pytest.mark.parametrize(
    ("candidate", "baseline", "passes"),
    [
        # 3 of 5 against 1 of 5
        pytest.param("IY", "B IY", False, marks=large),
        pytest.param("B IY", "IY", True, marks=large),
        pytest.param("B IY", None, True, marks=large),  # the first
    ],
)
def test_against_the_last_blessed(tmp_path, candidate, baseline, passes):
    figures, failures, blessed = evaluate(tmp_path, candidate, baseline)
    assert blessed == int(passes)
    # The figures are the candidate's.
    expected = 1 / 5 if candidate == "B IY" else 3 / 5
    rate = figures["overall"]["phoneme_error_rate"]
    assert rate == pytest.approx(expected)
    if passes:
        assert not failures
    else:
        (failure,) = failures
        assert "differs from the last blessed model's by 0.4000" in failure
        assert "at most 0.1000 is accepted" in failure
