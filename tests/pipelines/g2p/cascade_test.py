"""The pipeline with a cascade: the student, and the teacher for hard words."""

import json
import pathlib

import pytest

import pipelines
from keras_moe.calibration import Certificate
from pipelines.g2p import configs
from pipelines.g2p import demo
from pipelines.g2p import kubeflow_v2_runner
from pipelines.g2p.pipeline import create_pipeline
from tests.pipelines.g2p.conftest import TINY
from tests.pipelines.g2p.conftest import config_of
from tests.pipelines.g2p.conftest import make_flags
from tests.pipelines.g2p.conftest import run
from tests.pipelines.g2p.conftest import versions

pytestmark = pytest.mark.tfx

DEPLOY = pathlib.Path(pipelines.__file__).parent / "deploy"


def _nodes(*flags):
    _, config = configs.COMMAND_LINE.parse(
        configs.COMMAND_LINE.parser("test"), list(flags)
    )
    return {node.id: node for node in create_pipeline(config).components}


def _makers(node):
    """The nodes that an input comes from, by the input's name."""
    return {
        name: channel.producer_component_id
        for name, channel in node.inputs.items()
    }


def test_a_flag_puts_the_cascade_in_the_place_of_exits(tmp_path):
    flags = ["--output", str(tmp_path)]
    without, nodes = _nodes(*flags), _nodes(*flags, "--cascade")
    assert set(without) - set(nodes) == {"ExitCalibrator"}
    assert set(nodes) - set(without) == {"CascadeCalibrator"}
    calibrator = nodes["CascadeCalibrator"]
    assert _makers(calibrator) == {
        "small": "Distiller",
        "large": "Trainer",
        "examples": "ImportExampleGen",
        "transform_graph": "Transform",
    }
    assert json.loads(calibrator.exec_properties["splits"]) == {
        "trained_on": ["train"],
        "fit": ["validation"],
        "calibration": ["calibration"],
    }
    # What is judged and pushed is the cascade.
    for name in ("Evaluator", "InfraValidator", "RouterReport"):
        assert _makers(nodes[name])["model"] == "CascadeCalibrator"
    config = nodes["Evaluator"].exec_properties["eval_config"]
    assert "DeferralShare" in config and "MeanExitLayer" not in config
    config = without["Evaluator"].exec_properties["eval_config"]
    assert "DeferralShare" not in config and "MeanExitLayer" in config


def test_a_cluster_runs_it_too(tmp_path):
    config = configs.load_config(
        DEPLOY / "cluster.yaml", {"cascade.enabled": True}
    )
    job = kubeflow_v2_runner.RUNNER.compile(config, tmp_path / "g2p.json")
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    assert "CascadeCalibrator" in tasks and "ExitCalibrator" not in tasks


CASCADE = """
cascade: {enabled: true, budget: 0.9, target: confidence}
"""
# To compile the teacher takes minutes, and is looked at once.
PLAIN = ["--set", "serving={batch_sizes: [], lengths: []}"]


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    return make_flags(tmp_path_factory.mktemp("cascade"), TINY + CASCADE)


@pytest.mark.large
@pytest.mark.timeout(1800)
def test_the_demo_pushes_a_cascade(flags, capfd):
    assert demo.main(flags) == 0
    config = config_of(flags)
    (version,) = versions(flags)
    extra = config.serving_dir / version / "assets.extra"
    certificate = Certificate.load(extra / "certificate.json")
    assert certificate.tolerance == config.cascade.budget
    report = json.loads((config.output / "report.json").read_text())
    low, high = certificate.policy["deferral_share"]
    assert 0 <= report["deferral_share"] <= high and low < high
    assert "mean_exit_layer" not in report
    rows = {row["name"]: row for row in report["models"]}
    assert set(rows) == {"teacher", "student", "cascade", "compiled cascade"}
    # Two ways of measuring the same model on the same words.
    cascade, compiled = rows["cascade"], rows["compiled cascade"]
    assert cascade["phoneme_error_rate"] == pytest.approx(
        report["phoneme_error_rate"]
    )
    for figure in ("phoneme_error_rate", "parameters", "mean_depth"):
        assert compiled[figure] == pytest.approx(cascade[figure])
    assert cascade["parameters"] == (
        rows["teacher"]["parameters"] + rows["student"]["parameters"]
    )
    (card,) = pathlib.Path(config.output).rglob("model_card.md")
    assert "## Cascade" in card.read_text()
    assert "WARNING" not in capfd.readouterr().err


@pytest.mark.large
@pytest.mark.timeout(1800)
def test_a_student_is_compared_with_the_cascade_before_it(flags, console):
    back = [*flags, *PLAIN, "--set", "cascade.enabled=false"]
    outcome, ran = run(back, console)
    assert "ExitCalibrator" in ran and "Trainer" not in ran
    assert outcome.pushed is not None, outcome.reason
    assert outcome.metrics["mean_exit_layer"] >= 1.0


@pytest.mark.large
@pytest.mark.timeout(1800)
def test_more_words_go_on_from_the_student_of_a_cascade(flags, console):
    # A teacher of a few steps makes a cascade worse than its student.
    lenient = "evaluation.max_phoneme_error_rate_increase=100"
    again = [*flags, *PLAIN, "--set", lenient]
    outcome, ran = run(again, console)
    assert "Distiller" not in ran
    assert outcome.pushed is not None, outcome.reason
    outcome, ran = run([*again, "--set", "data.max_words=440"], console)
    assert {"Trainer", "Distiller", "CascadeCalibrator"} <= ran
    assert outcome.pushed is not None, outcome.reason
    assert 0 <= outcome.metrics["deferral_share"] <= 1
