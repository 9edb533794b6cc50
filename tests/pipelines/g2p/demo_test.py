"""The whole pipeline on a few hundred words, again and again.

One folder, one process, and the order matters: each test changes one thing
and looks at what ran anew.
"""

import contextlib
import json

import pytest
import tensorflow as tf
from rich.console import Console

from keras_moe.calibration import Certificate
from keras_moe.components.gates._infra_validator import InfraValidatorExecutor
from keras_moe.models import SwitchTransformer
from keras_moe.orchestration import served
from keras_moe.orchestration import span_of
from pipelines.g2p import demo
from pipelines.g2p import local_runner
from pipelines.g2p.modules import presets
from pipelines.g2p.modules import training
from tests.pipelines.g2p.conftest import config_of
from tests.pipelines.g2p.conftest import make_flags
from tests.pipelines.g2p.conftest import run
from tests.pipelines.g2p.conftest import versions
from tests.serving import native_loader

pytestmark = [pytest.mark.long, pytest.mark.tfx]

HEAD = {
    "ImportExampleGen",
    "ImportSchemaGen",
    "StatisticsGen",
    "ExampleValidator",
    "AnomalyGate",
    "Transform",
}
GATES = {"Evaluator", "InfraValidator", "RouterReport", "Pusher"}
MODELS = {"Trainer", "Distiller", "ExitCalibrator"}


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """A teacher of few blocks, and few steps: each block is traced often."""
    with pytest.MonkeyPatch.context() as patch:
        tiny = {**presets.PRESETS["switch_tiny"], "num_encoder_layers": 1}
        patch.setitem(presets.PRESETS, "tiny", tiny)
        yield [
            *make_flags(tmp_path_factory.mktemp("line")),
            *("--preset", "tiny", "--steps", "4"),
            *("--set", "student.training.steps=10"),
        ]


class LeftOpen(contextlib.ExitStack):
    """Serves as the demo does, and leaves the server to later tests."""

    def served(self, *args):
        self.both = self.enter_context(served(*args))
        return contextlib.nullcontext(self.both)


def teach_eagerly(model, *args, _train=training.train, **kwargs):
    """Trains a teacher by Python, a student in a graph, as always.

    Few steps take less time than their graph; a model of this kind trains in a
    graph in `modules/training_test.py`.
    """
    tf.config.run_functions_eagerly(isinstance(model, SwitchTransformer))
    try:
        return _train(model, *args, **kwargs)
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def left_open():
    with LeftOpen() as stack:
        yield stack


@pytest.mark.usefixtures("servers_look_often")
def test_demo_pushes_serves_and_reports(flags, left_open, capfd, monkeypatch):
    monkeypatch.setattr("pipelines.g2p.comparison._TIMED_WORDS", 4)
    # The server of the demo loads what is validated, and with it answers the
    # requests of the validation, which go into the warm-up. How the validation
    # asks a server of its own: `tests/components/gates`.
    monkeypatch.setattr(
        InfraValidatorExecutor, "_validate_embedded", lambda *args: None
    )
    monkeypatch.setattr(demo, "served", left_open.served)
    monkeypatch.setattr(training, "train", teach_eagerly)
    assert demo.main(flags) == 0
    config = config_of(flags)
    (version,) = versions(flags)
    files = {path.name for path in (config.serving_dir / version).iterdir()}
    assert {"saved_model.pb", "variables", "assets.extra"} <= files
    extra = config.serving_dir / version / "assets.extra"
    assert (extra / "model.keras").is_file()
    assert (extra / "tf_serving_warmup_requests").is_file()
    page = json.loads((extra / "page.json").read_text())
    # Of two decoder layers, as the teacher has.
    assert page["outputs"]["phonemes"]["layers"] == 2
    (picture,) = page["pictures"]
    assert (extra / picture["file"]).read_bytes().startswith(b"\x89PNG")
    # What is served is what was certified.
    certificate = Certificate.load(extra / "certificate.json")
    assert certificate.tolerance == config.exits.tolerance

    report = json.loads((config.output / "report.json").read_text())
    assert report["version"] == int(version)
    assert report["phoneme_error_rate"] > 0
    assert report["word_error_rate"] <= report["word_error_rate_strict"] <= 1
    assert report["minutes"] > 0
    rows = {row["name"]: row for row in report["models"]}
    assert set(rows) == {
        *("teacher", "student", "early-exit student", "compiled student")
    }
    assert rows["teacher"]["parameters"] > rows["student"]["parameters"] > 0
    for row in rows.values():
        assert row["milliseconds"] > 0
        assert 1 <= row["mean_depth"] <= 2
    # Two ways of measuring the same model on the same words.
    exits = rows["early-exit student"]
    assert exits["phoneme_error_rate"] == pytest.approx(
        report["phoneme_error_rate"]
    )
    assert exits["mean_depth"] == pytest.approx(report["mean_exit_layer"])
    # XLA changes nothing but the time.
    compiled = rows["compiled student"]
    for figure in ("phoneme_error_rate", "parameters", "mean_depth"):
        assert compiled[figure] == pytest.approx(exits[figure])
    for answer in report["served"]:
        assert answer["status"] == "ok"
        assert answer["correct"] == (answer["phonemes"] in answer["listed"])

    output = capfd.readouterr().err
    for name in HEAD | MODELS | GATES:
        assert name in output
    for model in rows:
        assert model in output
    for noise in ("ZetaSQL", "ArtifactQuery", "deprecated", "WARNING"):
        assert noise not in output


@pytest.fixture(scope="class")
def server(left_open):
    """The demo's; ends before others push: it would load what they do."""
    with left_open:
        server, _ = left_open.both
        # Those of the export, of its one compiled shape, and of the validation.
        assert server.servable.warmup_requests == 2 + 1 + 5
        yield server


class TestServed:
    def test_the_served_model_answers_bad_words(self, server):
        from keras_moe.serving import Client

        words = ["hello", "", "x" * 10_000, "日本", "caf\u00e9"]
        with Client(grpc_port=server.grpc_port, model_name="g2p") as client:
            answers = client.predict({"word": words})
            alone = client.predict({"word": ["hello"]})
        assert [status.decode() for status in answers["status"]] == [
            "ok",
            "empty",
            "too_long",
            "unknown_characters",
            "unknown_characters",
        ]
        assert [p == b"" for p in answers["phonemes"][1:4]] == [True] * 3
        assert answers["phonemes"][0] == alone["phonemes"][0]

    def test_tensorflows_own_loader_gives_the_same_answers(
        self, server, tmp_path
    ):
        from keras_moe.serving.protocol._tensor_codec import as_array

        words = ["hello", "", "x" * 10_000, "caf\u00e9", "it's"]
        servable = server.servable
        expected = servable.run({"word": as_array(words)})
        signature = servable.signature()

        binary = native_loader.build(tmp_path)
        names = ("phonemes", "token_ids", "status")
        answers = native_loader.run(
            binary,
            servable.path,
            signature.inputs["word"].tensor_name,
            words,
            [signature.outputs[name].tensor_name for name in names],
        )
        for name, answer in zip(names, answers, strict=True):
            assert answer == expected[name].tolist()


def test_a_second_run_is_cached_and_counts_as_success(flags, capfd):
    before = versions(flags)
    assert local_runner.main(flags) == 0
    assert versions(flags) == before
    output = capfd.readouterr().err
    assert output.count("cached") == len(HEAD | MODELS | GATES)
    assert "Nothing changed" in output


@pytest.mark.large
def test_a_changed_student_leaves_the_teacher_alone(flags, console):
    changed = [*flags, "--set", "student.training.steps=91"]
    outcome, ran = run(changed, console)
    assert ran == {"Distiller", "ExitCalibrator"} | GATES
    assert outcome.pushed is not None, outcome.reason
    assert versions(flags)[-1] == outcome.pushed.name
    assert len(versions(flags)) == 2


@pytest.mark.large
def test_going_back_pushes_the_cached_model_anew(flags, console):
    outcome, ran = run(flags, console)
    assert ran == {"Pusher"}
    assert len(versions(flags)) == 3
    assert versions(flags)[-1] == outcome.pushed.name
    # And then it is at rest.
    outcome, ran = run(flags, console)
    assert not ran
    assert outcome.pushed_by_earlier_run


@pytest.mark.large
def test_an_unmet_threshold_pushes_nothing_and_fails(flags, capfd):
    before = versions(flags)
    strict = [*flags, "--max-phoneme-error-rate", "1e-6"]
    for _ in range(2):  # a cached refusal is a refusal
        assert local_runner.main(strict) == 1
        assert versions(flags) == before
        output = capfd.readouterr().err
        assert "Nothing was pushed: the Evaluator did not bless" in output
        assert "at most 0.0000 is accepted" in output.replace("\n", " ")
    outcome, ran = run(strict, Console(quiet=True))
    assert outcome.pushed is None
    assert not ran


@pytest.mark.large
def test_a_failing_component_is_named_with_its_cause(flags, capfd, monkeypatch):
    def train(*args, **kwargs):
        raise RuntimeError("the loss is not a number")

    monkeypatch.setattr(training, "train", train)
    assert local_runner.main([*flags, "--steps", "22"]) == 1
    output = capfd.readouterr().err
    assert "Trainer failed" in output
    assert "the loss is not a number" in output
    assert "Traceback" not in output
    log = config_of(flags).output / "failure.log"
    assert "Traceback" in log.read_text()


def test_a_truncated_record_file_stops_before_anything_runs(flags, capfd):
    before = versions(flags)
    path = span_of(config_of(flags).data_dir, 1).records("train")
    path.write_bytes(path.read_bytes()[:-100])
    assert local_runner.main(flags) == 1
    output = capfd.readouterr().err
    assert str(path) in output.replace("\n", "")
    assert "ImportExampleGen" not in output
    assert versions(flags) == before
