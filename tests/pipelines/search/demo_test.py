"""The whole pipeline on a tiny WordNet, again and again.

One folder, one process, and the order matters: each test changes one thing
and looks at what ran anew.
"""

import json

import pytest
from rich.console import Console

from pipelines.search import demo
from pipelines.search import local_runner
from tests.pipelines.search.conftest import config_of

pytestmark = [pytest.mark.tfx, pytest.mark.large]

HEAD = {
    *("ImportExampleGen", "ImportSchemaGen", "StatisticsGen"),
    *("ExampleValidator", "AnomalyGate"),
}
MODELS = {"Trainer", "CandidateEmbedder", "IndexBuilder"}
GATES = {"Evaluator", "InfraValidator", "Pusher"}


def versions(flags):
    folder = config_of(flags).serving_dir
    return sorted(path.name for path in folder.glob("*"))


def run(flags):
    """Returns the outcome, and the names of what was not cached."""
    outcome = local_runner.RUNNER.run(config_of(flags), Console(quiet=True))
    return outcome, {run.name for run in outcome.runs if not run.cached}


def test_demo_pushes_serves_and_reports(flags, capfd):
    assert demo.main(flags) == 0
    config = config_of(flags)
    (version,) = versions(flags)
    extra = config.serving_dir / version / "assets.extra"
    assert (extra / "tuned_index.json").is_file()
    assert (extra / "tf_serving_warmup_requests").is_file()
    page = json.loads((extra / "page.json").read_text())
    assert page["inputs"]["query"]["label"] == "Meaning"

    report = json.loads((config.output / "report.json").read_text())
    assert report["version"] == int(version)
    assert 0 < report["mrr"] <= 1 and 0 < report["recall"] <= 1
    index = report["index"]
    assert index["certified_recall"] == pytest.approx(0.6)
    assert index["measured_recall"] >= 0.6
    assert index["candidates"] == 603
    assert report["milliseconds"] > 0 and report["minutes"] > 0
    asked = [each for each in report["answers"] if each["expected"]]
    assert len(asked) == 5
    assert any(each["rank"] for each in asked)
    for answer in report["answers"]:
        found = answer["identifiers"]
        assert bool(found) == (answer["status"] == "ok")
        if answer["rank"] and answer["rank"] <= len(found):
            assert found[answer["rank"] - 1] == answer["expected"]
    assert report["answers"][-1]["status"] == "too_short"
    # The line that was printed was tried.
    assert len(report["curled"]["identifiers"][0]) == 3

    output = capfd.readouterr().err
    for name in HEAD | MODELS | GATES:
        assert name in output
    assert "curl -s -d" in output
    for noise in ("ZetaSQL", "ArtifactQuery", "deprecated", "WARNING"):
        assert noise not in output


def test_a_second_run_is_cached_and_counts_as_success(flags, capfd):
    before = versions(flags)
    assert local_runner.main(flags) == 0
    assert versions(flags) == before
    output = capfd.readouterr().err
    assert output.count("cached") == len(HEAD | MODELS | GATES)


def test_another_recall_trains_and_embeds_nothing_anew(flags):
    outcome, ran = run([*flags, "--target-recall", "0.65"])
    assert ran == {"IndexBuilder"} | GATES
    assert outcome.pushed is not None, outcome.reason
    assert len(versions(flags)) == 2


def test_a_recall_that_is_not_reached_pushes_nothing(flags, capfd):
    before = versions(flags)
    assert local_runner.main([*flags, "--target-recall", "0.9999"]) == 1
    assert versions(flags) == before
    said = " ".join(capfd.readouterr().err.split())
    assert "Nothing was pushed: " in said and "no index:" in said


def test_a_search_below_its_bound_is_refused(flags, capfd):
    before = versions(flags)
    strict = [*flags, "--set", "evaluation.min_mrr=1"]
    assert local_runner.main(strict) == 1
    assert versions(flags) == before
    said = " ".join(capfd.readouterr().err.split())
    assert "the Evaluator did not bless the model: mrr (overall) is" in said
    assert "at least 1.0000 is accepted" in said
