"""A stock server follows what the command writes, by that server's rule."""

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.config import model_server_config_pb2

from keras_moe.serving import Rollout
from keras_moe.serving import rollout as module
from keras_moe.serving.versions._stock_config import stock_steps
from tests.serving.versions.stock_server import RefusedError
from tests.serving.versions.stock_server import StockServer

COMMANDS = st.lists(
    st.sampled_from(["push", "promote", "rollback", "restore", "delete"]),
    max_size=12,
)


def parse(text):
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


@given(COMMANDS, st.booleans(), st.integers(2, 3))
def test_any_commands_can_be_followed(commands, allow, num_versions):
    folder, decision = {1, 2}, Rollout()
    server = StockServer(folder)
    config = decision.stock_config(folder, "m", "/m", num_versions)
    server.reload(config)
    # The first labels of all need the flag, since nothing is loaded.
    server.allow = allow
    for command in commands:
        try:
            decision = change(decision, command, folder)
        except ValueError:
            continue
        server.look()
        if decision.stable in folder:
            # A push unloads no version that was promoted.
            assert decision.stable in server.available or command == "promote"
        wanted = decision.stock_config(folder, "m", "/m", num_versions)
        steps = stock_steps(config, *wanted.model_config_list.config, folder)
        assert len(steps) <= 2
        for config in steps:
            server.reload(config)
            assert set(server.labels.values()) <= server.available
        assert server.labels == decision.labels(folder)


def change(decision, command, folder):
    if command == "push":
        folder.add(max(folder) + 1)
    elif command == "delete":
        folder.discard(min(folder - {decision.stable, max(folder)}, default=0))
    elif command == "promote":
        return decision.promote(folder)
    elif command == "rollback":
        return decision.roll_back(folder)
    elif command == "restore":
        return decision.restore(max(decision.withdrawn, default=0))
    return decision


@pytest.mark.parametrize(
    "commands",
    [
        ["rollback", "push", "status"],
        ["rollback", "push", "status", "push", "status"],
        ["rollback", "restore --version=3"],
        ["promote", "push", "status", "push", "status"],
        ["promote", "push", "push", "status", "rollback"],
    ],
    ids=" ".join,
)
def test_the_command_waits_for_the_server(tmp_path, monkeypatch, commands):
    base, path = tmp_path / "m", tmp_path / "models.config"
    folder, waits = set(), []
    server = StockServer(folder)

    def push():
        folder.add(len(folder) + 1)
        version = base / str(max(folder))
        version.mkdir(parents=True)
        (version / "saved_model.pb").touch()
        server.look()

    def read():
        server.reload(parse(path.read_text()))

    def sleep(seconds):
        waits.append(seconds)
        read()

    def run(command, *flags):
        flags = [*flags, f"--model_config_file={path}"]
        assert module.main([command, str(base), *flags]) == 0
        read()

    monkeypatch.setattr(module.time, "sleep", sleep)
    for _ in range(3):
        push()
    run("status")
    for command in commands:
        if command == "push":
            push()
        else:
            run(*command.split(), "--poll_wait_seconds=3")
        assert set(server.labels.values()) <= server.available

    assert server.labels == Rollout.read(base).labels(folder)
    assert waits and set(waits) == {6.0}


def test_what_is_written_at_once_is_refused():
    # The rule that the others are tested against refuses what it should.
    server = StockServer({1, 2, 3})
    server.reload(Rollout().stock_config({1, 2, 3}, "m", "/m"))
    server.reload(Rollout(2, frozenset({3})).stock_config({1, 2, 3}, "m", "/m"))
    assert server.available == {1, 2}
    server.folder.add(4)
    with pytest.raises(RefusedError, match="version 4"):
        server.reload(
            Rollout(2, frozenset({3})).stock_config({1, 2, 3, 4}, "m", "/m")
        )
    assert server.available == {1, 2}


def test_other_models_stay(tmp_path):
    path = tmp_path / "models.config"
    path.write_text('model_config_list { config { name: "other" } }')
    for version in ("1", "2"):
        (tmp_path / "m" / version).mkdir(parents=True)
        (tmp_path / "m" / version / "saved_model.pb").touch()
    for _ in range(2):
        arguments = ["status", str(tmp_path / "m")]
        assert module.main([*arguments, f"--model_config_file={path}"]) == 0
        models = parse(path.read_text()).model_config_list.config
        assert [model.name for model in models] == ["other", "m"]


def test_a_damaged_configuration_is_refused_before_anything_changes(
    tmp_path, capsys
):
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/1/saved_model.pb").touch()
    path = tmp_path / "models.config"
    path.write_text("model {")
    arguments = ["promote", str(tmp_path / "m"), f"--model_config_file={path}"]
    assert module.main(arguments) == 1
    assert "must hold a ModelServerConfig" in capsys.readouterr().err
    assert not (tmp_path / "m/rollout.json").exists()
