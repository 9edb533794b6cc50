"""Versions come and go under a running server; requests never notice."""

import contextlib
import shutil
import threading

import pytest

from keras_moe import serving
from keras_moe.serving.protocol._model_spec import ModelSpec
from keras_moe.serving.protocol._tensor_codec import as_array
from tests.serving import toy_model

WORD = {"word": ["ab"]}
POLL_SECONDS = 0.02


@contextlib.contextmanager
def serving_of(base, **options):
    with serving.Server(
        "toy", base, poll_seconds=POLL_SECONDS, **options
    ) as server:
        with serving.Client(
            grpc_port=server.grpc_port,
            rest_port=server.rest_port,
            model_name="toy",
        ) as client:
            yield server, client


def score(client):
    return client.predict(WORD)["score"].tolist()


def state(client, version):
    return client.status().get(version)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_replays_warm_up_requests(server):
    assert server.servable.warmup_requests == 3


def test_hot_swap_under_continuous_requests(models, tmp_path, eventually):
    base = tmp_path / "toy"
    toy_model.push(models[1], base, 1)
    with serving_of(base, num_versions=1) as (server, client):
        server.wait_until_available()
        stop, failures = threading.Event(), []
        answers = {"predict": [], "predict_rest": []}

        def ask(method):
            while not stop.is_set():
                try:
                    answer = getattr(client, method)(WORD)["score"].tolist()
                    answers[method].append(answer)
                except serving.ServingError as error:
                    failures.append(error)

        threads = [
            threading.Thread(target=ask, args=[method]) for method in answers
        ]
        for thread in threads:
            thread.start()
        try:
            for version, scale in ((2, 2), (3, 1), (4, 2)):
                toy_model.push(models[scale], base, version)
                eventually(
                    lambda version=version: (
                        (found := state(client, version))
                        and found.state == "AVAILABLE"
                    )
                )
                eventually(
                    lambda version=version: (
                        state(client, version - 1).state == "END"
                    )
                )
            # A busy machine may not have let both threads ask again yet.
            eventually(
                lambda: all(
                    received[-1] == [4.0] for received in answers.values()
                )
            )
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)

        assert not failures
        for received in answers.values():
            assert received[0] == [2.0]
            assert received[-1] == [4.0]
        assert state(client, 3).error_code == "OK"
        assert state(client, 4).error_code == "OK"


def test_old_version_stays_open_for_requests_under_way(
    models, tmp_path, eventually
):
    base = tmp_path / "toy"
    toy_model.push(models[1], base, 1)
    with serving_of(base, num_versions=1) as (server, client):
        server.wait_until_available()
        with server._watcher.lease(ModelSpec("toy")) as old:
            toy_model.push(models[2], base, 2)
            eventually(lambda: score(client) == [4.0])

            assert state(client, 1).state == "UNLOADING"
            inputs = {"word": as_array(["ab"])}
            assert old.run(inputs)["score"].tolist() == [2.0]
        assert state(client, 1).state == "END"


@pytest.mark.parametrize(
    "damage",
    [
        "saved_model.pb",
        "variables",
        "variables data",
        "warm-up",
        "warm-up request",
    ],
)
def test_corrupted_version(models, tmp_path, eventually, damage, caplog):
    base = tmp_path / "toy"
    toy_model.push(models[2], base, 1)
    broken = tmp_path / "broken"
    shutil.copytree(models[1], broken)
    if damage == "saved_model.pb":
        truncate(broken / "saved_model.pb")
    elif damage == "variables":
        shutil.rmtree(broken / "variables")
    elif damage == "variables data":
        truncate(broken / "variables/variables.data-00000-of-00001")
    elif damage == "warm-up":
        truncate(broken / "assets.extra/tf_serving_warmup_requests")
    else:
        # It fits the signature, but the model itself refuses it.
        serving.write_warmup_requests(broken, [("number", {"word": ["x"]})])

    with serving_of(base) as (server, client):
        server.wait_until_available()
        toy_model.push(broken, base, 2)
        eventually(lambda: state(client, 2) and state(client, 2).error_message)

        assert state(client, 2).state == "END"
        assert state(client, 2).error_code != "OK"
        assert score(client) == [4.0]
        assert state(client, 1).state == "AVAILABLE"

        # It is not tried again and again ...
        attempts = caplog.text.count("cannot be served")
        assert attempts == 1
        threading.Event().wait(3 * POLL_SECONDS)
        assert caplog.text.count("cannot be served") == attempts

        # ... until it has been repaired.
        shutil.copytree(models[1], base / "2", dirs_exist_ok=True)
        eventually(lambda: score(client) == [2.0])
        assert state(client, 2).state == "AVAILABLE"


def test_newer_version_after_a_corrupted_one(models, tmp_path, eventually):
    base = tmp_path / "toy"
    toy_model.push(models[1], base, 1)
    truncate(toy_model.push(models[1], base, 2) / "saved_model.pb")
    with serving_of(base) as (server, client):
        # Also at the start: the newest version that loads is served.
        server.wait_until_available()
        assert score(client) == [2.0]
        assert state(client, 2).error_code == "DATA_LOSS"

        toy_model.push(models[2], base, 3)
        eventually(lambda: score(client) == [4.0])


def test_half_written_and_foreign_folders(models, tmp_path, eventually):
    base = tmp_path / "toy"
    for name in ("7", "tmp", "8x", "-1", "٣", "9" * 30):
        (base / name).mkdir(parents=True)
    (base / "9").write_text("a file")
    shutil.copytree(models[1] / "variables", base / "7" / "variables")
    toy_model.push(models[2], base, 2)
    with serving_of(base) as (server, client):
        server.wait_until_available()
        threading.Event().wait(3 * POLL_SECONDS)
        assert list(client.status()) == [2]
        assert score(client) == [4.0]

        shutil.copy(models[1] / "saved_model.pb", base / "7")
        eventually(lambda: score(client) == [2.0])
        assert list(client.status()) == [7, 2]


def test_starts_before_the_first_push(models, tmp_path, eventually):
    base = tmp_path / "toy"
    with serving_of(base) as (server, client):
        with pytest.raises(serving.ServingError, match="NOT_FOUND"):
            client.predict(WORD)
        toy_model.push(models[1], base, 1)
        server.wait_until_available()
        assert score(client) == [2.0]


def test_removed_versions(models, tmp_path, eventually):
    base = tmp_path / "toy"
    for version in (1, 2):
        toy_model.push(models[version], base, version)
    with serving_of(base) as (server, client):
        server.wait_until_available()
        assert score(client) == [4.0]

        shutil.rmtree(base / "2")
        eventually(lambda: score(client) == [2.0])
        shutil.rmtree(base / "1")
        threading.Event().wait(3 * POLL_SECONDS)
        assert score(client) == [2.0]
