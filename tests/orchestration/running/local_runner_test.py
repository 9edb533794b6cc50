"""Another project's pipeline, run by the public runner."""

import shutil

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from rich.console import Console

from keras_moe.orchestration import AnotherRunnerError
from keras_moe.orchestration import ComponentFailedError
from keras_moe.orchestration import LocalRunner
from keras_moe.orchestration import NothingPushedError
from keras_moe.orchestration import only_runner
from keras_moe.orchestration import require_pushed
from tests.orchestration.toys import COMMAND_LINE
from tests.orchestration.toys import ToyConfig
from tests.orchestration.toys import create_pipeline

pytestmark = pytest.mark.tfx

RUNNER = LocalRunner("tests.orchestration.toys.create_pipeline", talking=())
PROG = "python -m toys.local_runner"
COMPONENTS = ["Maker", "Judge", "Pusher"]


@pytest.fixture
def console(tmp_path):
    with open(tmp_path / "console", "w") as file:
        yield Console(file=file, width=200)


@pytest.fixture
def config(tmp_path):
    return ToyConfig(output=tmp_path / "out")


def ran(outcome):
    return [run.name for run in outcome.runs if not run.cached]


def but(config, **changes):
    return config.model_copy(update=changes)


def test_it_pushes_once_and_then_all_is_cached(config, console, tmp_path):
    first = RUNNER.run(config, console)
    assert ran(first) == COMPONENTS
    assert first.pushed.parent == config.output / "serving" / "train"
    assert (first.pushed / "saved_model.pb").read_text() == "red"
    assert first.saved_model("Maker", "model").is_dir()
    assert not first.pushed_by_earlier_run
    assert (first.reason, dict(first.evaluation)) == ("", {})
    require_pushed(first, console)

    second = RUNNER.run(config, console)
    assert ran(second) == []
    assert second.pushed == first.pushed
    assert second.pushed_by_earlier_run
    require_pushed(second, console)

    console.file.flush()
    lines = (tmp_path / "console").read_text().splitlines()
    times = [line.split()[1:] for line in lines if line.startswith("  ")]
    assert [time[-1] for time in times] == ["s"] * 3 + ["cached"] * 3
    version = first.pushed.name
    assert lines[-1].startswith(f"Nothing changed: version {version}, pushed")
    pushed = f"Pushed version {version} to {first.pushed.parent}"
    assert pushed in lines


def test_what_is_served_again_is_what_was_asked_for(config, console):
    red = RUNNER.run(config, console)
    blue = but(config, making=config.making.model_copy(update={"colour": "b"}))
    newer = RUNNER.run(blue, console)
    assert ran(newer) == COMPONENTS
    # Back to a configuration that ran before: only the push is new.
    again = RUNNER.run(config, console)
    assert ran(again) == ["Pusher"]
    assert int(again.pushed.name) > int(newer.pushed.name)
    assert (again.pushed / "saved_model.pb").read_text() == "red"
    # A version that was removed comes back.
    shutil.rmtree(again.pushed)
    shutil.rmtree(newer.pushed)
    shutil.rmtree(red.pushed)
    back = RUNNER.run(config, console)
    assert ran(back) == ["Pusher"]
    assert back.pushed.is_dir()


def test_a_model_that_is_not_blessed_is_a_failure(config, console):
    disliked = but(config, liked=False)
    for expected in (COMPONENTS, []):  # a cached refusal is a refusal
        outcome = RUNNER.run(disliked, console)
        assert ran(outcome) == expected
        assert outcome.pushed is None
        assert outcome.reason == "the Evaluator did not bless the model"
        with pytest.raises(
            NothingPushedError, match="Nothing was pushed: the Evaluator did"
        ):
            require_pushed(outcome, console)
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(config.metadata_path)
    store = metadata_store.MetadataStore(connection)
    (model,) = store.get_artifacts_by_type("PushedModel")
    assert model.custom_properties["reason"].string_value == outcome.reason


def test_a_component_that_fails_is_named_with_its_cause(config, console):
    badly = config.making.model_copy(update={"how": "badly"})
    with pytest.raises(ComponentFailedError) as raised:
        RUNNER.run(but(config, making=badly), console)
    assert str(raised.value) == "Maker failed: TypeError: the wheels came off"
    assert (raised.value.name, raised.value.gate_closed) == ("Maker", False)


def test_prepare_comes_first_and_the_pipeline_gets_what_it_made(
    config, console
):
    calls = []

    def prepare(given, where):
        assert (given, where) == (config, console)
        with (
            pytest.raises(AnotherRunnerError),
            only_runner(config.metadata_path),
        ):
            pass  # the lock is held already
        calls.append("prepare")
        return 7

    def create(given, prepared):
        calls.append(prepared)
        return create_pipeline(given)

    outcome = LocalRunner(create, prepare).run(config, console)
    assert calls == ["prepare", 7]
    assert outcome.prepared == 7


def test_a_pusher_of_another_name(config, console):
    runner = LocalRunner(create_pipeline, pusher="Shop")
    with pytest.raises(ValueError, match="pipeline: Maker, Judge, Pusher. Rec"):
        runner.run(config, console)
    # What cannot be judged does not begin.
    assert not config.pipeline_root.exists()


def test_a_function_that_makes_no_pipeline(config, console):
    with pytest.raises(ValueError, match="must return .*Received: None"):
        LocalRunner(lambda config: None).run(config, console)


def stopped(capfd, *flags):
    assert RUNNER.main(COMMAND_LINE, PROG, argv=flags) == 1
    said = capfd.readouterr().err.splitlines()
    (line,) = (line for line in said if line.startswith("Stopped."))
    assert said.index(line) >= len(said) - 2
    return line


def test_a_message_of_several_lines_is_one(config, capfd):
    line = stopped(
        *(capfd, "--output", str(config.output)),
        *("--set", "making.how=in lines"),
    )
    assert line.endswith("ValueError: the wheels came [off] both")
    assert "came [off]\n\nboth" in (config.output / "failure.log").read_text()


def test_a_component_that_exits_is_a_failure(config, capfd):
    line = stopped(
        *(capfd, "--output", str(config.output)),
        *("--set", "making.how=and leaves"),
    )
    assert line.endswith("Maker failed: SystemExit: 0")


def test_an_output_that_cannot_be_written(tmp_path, capfd):
    (tmp_path / "file").write_text("x")
    flags = ["--output", str(tmp_path / "file")]
    assert RUNNER.main(COMMAND_LINE, PROG, argv=flags) == 1
    said = capfd.readouterr().err
    assert "Stopped. `output` must be a folder that can be written." in said
    # Where it would have been written, it is shown.
    assert "Traceback (most recent call last)" in said


def test_the_command(config, capfd):
    flags = ["--output", str(config.output), "--colour", "green"]
    assert RUNNER.main(COMMAND_LINE, PROG, argv=flags) == 0
    assert "Pushed version" in capfd.readouterr().err

    assert RUNNER.main(COMMAND_LINE, PROG, argv=[*flags, "--set", "liked=no"])
    said = capfd.readouterr().err.replace("\n", " ")
    assert "Stopped. Nothing was pushed: the Evaluator did not bless" in said
    assert not (config.output / "failure.log").exists()

    closed = [*flags, "--set", "making.how=not at all"]
    assert RUNNER.main(COMMAND_LINE, PROG, argv=closed) == 1
    said = capfd.readouterr().err
    assert "Stopped. Nothing was pushed: no toys on Sundays." in said
    assert not (config.output / "failure.log").exists()

    failing = [*flags, "--set", "making.how=badly"]
    assert RUNNER.main(COMMAND_LINE, PROG, argv=failing) == 1
    said = capfd.readouterr().err
    assert "Stopped. Maker failed: TypeError: the wheels came off" in said
    assert "Traceback (most" not in said
    assert "Traceback" in (config.output / "failure.log").read_text()

    again = [*flags, "--no-cache"]
    assert RUNNER.main(COMMAND_LINE, PROG, argv=again) == 0
    assert "cached" not in capfd.readouterr().err
