"""Two versions at a time, their labels, and changes under load."""

import contextlib
import threading

import pytest

from keras_moe import serving
from keras_moe.serving import rollout
from keras_moe.serving.server import _server as module
from tests.serving import toy_model

WORD = {"word": ["ab"]}


@pytest.fixture
def base(models, tmp_path):
    base = tmp_path / "toy"
    for version in (1, 2):
        toy_model.push(models[version], base, version)
    return base


@pytest.fixture
def served(base, eventually):
    with serving.Server("toy", base, poll_seconds=0.05) as server:
        with serving.Client(
            grpc_port=server.grpc_port,
            rest_port=server.rest_port,
            model_name="toy",
        ) as client:
            eventually(lambda: len(available(client)) == 2)
            yield server, client


def available(client):
    try:
        states = client.status()
    except serving.ServingError:
        return []
    return [v for v, state in states.items() if state.state == "AVAILABLE"]


def score(client, **choice):
    by_grpc = client.predict(WORD, **choice)["score"].tolist()
    assert client.predict_rest(WORD, **choice)["score"].tolist() == by_grpc
    return by_grpc


def test_labels_and_versions_by_both_ways(served):
    server, client = served
    assert score(client, label="stable") == score(client, version=1) == [2.0]
    assert score(client, label="canary") == score(client, version=2) == [4.0]
    assert score(client) == [4.0]
    assert server.labels() == {"stable": 1, "canary": 2}
    with pytest.raises(ValueError, match="Only one of `version` and `label`"):
        client.predict(WORD, version=1, label="stable")
    for method in (client.predict, client.predict_rest):
        with pytest.raises(serving.ServingError, match="label: beta"):
            method(WORD, label="beta")


def test_stable_stays_and_the_third_is_canary(served, base, models, eventually):
    _, client = served
    assert rollout.main(["promote", str(base), "--version=1"]) == 0
    toy_model.push(models[1], base, 3)
    eventually(lambda: available(client) == [3, 1])
    assert score(client, label="stable", timeout=10) == [2.0]
    assert score(client, version=3) == [2.0]


def test_commands_under_load_fail_no_request(served, base, models, eventually):
    _, client = served
    stop, failures = threading.Event(), []
    seen = {"stable": set(), "canary": set(), None: set()}

    def ask(label):
        while not stop.is_set():
            try:
                answer = client.predict(WORD, label=label)["score"].tolist()
                seen[label].add(answer[0])
            except serving.ServingError as error:
                failures.append(error)

    threads = [threading.Thread(target=ask, args=[label]) for label in seen]
    for thread in threads:
        thread.start()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [thread.join(30) for thread in threads])
        stack.callback(stop.set)
        eventually(lambda: seen["canary"] == {4.0})
        assert rollout.main(["rollback", str(base)]) == 0
        eventually(lambda: available(client) == [1])
        eventually(lambda: 2.0 in seen["canary"] and 2.0 in seen[None])
        assert rollout.main(["restore", str(base), "--version=2"]) == 0
        eventually(lambda: available(client) == [2, 1])
        assert rollout.main(["promote", str(base)]) == 0
        eventually(lambda: 4.0 in seen["stable"])
        toy_model.push(models[1], base, 3)
        eventually(lambda: available(client) == [3, 2])

    assert not failures
    assert seen == dict.fromkeys(seen, {2.0, 4.0})


def test_damaged_decision_leaves_the_one_before(served, base, eventually):
    _, client = served
    assert rollout.main(["rollback", str(base)]) == 0
    eventually(lambda: available(client) == [1])
    (base / "rollout.json").write_text("{")
    threading.Event().wait(0.3)
    assert available(client) == [1]
    assert score(client, label="canary") == [2.0]


def test_version_that_is_still_being_written(models, tmp_path, eventually):
    base = tmp_path / "toy"
    toy_model.push(models[1], base, 1)
    with serving.Server("toy", base, poll_seconds=0.2) as server:
        server.wait_until_available()
        new = toy_model.push(models[2], base, 2)
        with open(new / "notes", "w") as notes:
            for _ in range(12):
                print("more", file=notes, flush=True)
                threading.Event().wait(0.05)
                assert server.versions().keys() == {1}
        eventually(lambda: server.servable.version == 2)


def test_version_that_changes_while_it_is_loaded(
    models, tmp_path, monkeypatch, eventually, caplog
):
    base = tmp_path / "toy"
    toy_model.push(models[1], base, 1)
    load = module.Servable
    loads = []

    def slow(path, version, *arguments):
        if not loads:
            (path / "late").write_text("not all was there")
        loads.append(version)
        return load(path, version, *arguments)

    monkeypatch.setattr(module, "Servable", slow)
    with serving.Server("toy", base, poll_seconds=0.05) as server:
        server.wait_until_available()
    assert loads == [1, 1]
    assert "changed while it was loaded" in caplog.text
