"""How processes are joined, up to what TensorFlow is asked to do."""

import json
import os
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.experimental import dtensor

from keras_moe.distribution._device_mesh import device_mesh
from keras_moe.distribution._placement import dtensor_mesh
from keras_moe.distribution._processes import initialize
from keras_moe.distribution._processes import list_devices
from keras_moe.training.checkpoints._sharded_checkpoint import ShardedCheckpoint

JOIN = "initialize_accelerator_system"
ADDRESSES = ["127.0.0.1:1", "127.0.0.1:2"]
VARIABLES = ("CLIENT_ID", "JOB_NAME", "JOBS", "NUM_CLIENTS")


@pytest.fixture
def environ(monkeypatch):
    """The environment variables, put back after the test."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DTENSOR_", "TF_CONFIG"))
    }
    with mock.patch.dict(os.environ, variables, clear=True):
        yield os.environ


def describe(environ, job, index, **cluster):
    config = {"cluster": cluster, "task": {"type": job, "index": index}}
    environ["TF_CONFIG"] = json.dumps(config)


def told_to_dtensor(environ):
    return {name: environ.get(f"DTENSOR_{name}") for name in VARIABLES}


@pytest.mark.parametrize(
    "job, index, cluster, number, jobs",
    [
        ("worker", 1, {"worker": ADDRESSES}, "1", "127.0.0.1:1,127.0.0.1:2"),
        ("worker", 0, {"worker": ["a:2"], "chief": ["b:1"]}, "1", "b:1,a:2"),
        ("chief", 0, {"worker": ["a:2"], "chief": ["b:1"]}, "0", "b:1,a:2"),
        ("worker", 0, {"worker": ["a:2"], "evaluator": ["c:1"]}, "0", "a:2"),
    ],
)
def test_workers_are_numbered_after_the_chief(
    environ, job, index, cluster, number, jobs
):
    describe(environ, job, index, **cluster)
    with mock.patch.object(dtensor, JOIN) as join:
        initialize()
    join.assert_called_once_with()
    assert told_to_dtensor(environ) == {
        "CLIENT_ID": number,
        "JOB_NAME": "worker",
        "JOBS": jobs,
        "NUM_CLIENTS": str(jobs.count(",") + 1),
    }


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "`TF_CONFIG` must be JSON"),
        ("{", "`TF_CONFIG` must be JSON"),
        (json.dumps({"cluster": {"worker": ADDRESSES}}), 'its "task" must'),
    ],
)
def test_a_malformed_config_is_refused(environ, text, message):
    if text is not None:
        environ["TF_CONFIG"] = text
    with pytest.raises(ValueError, match=message):
        initialize()


def test_other_tasks_are_refused(environ):
    describe(environ, "evaluator", 0, worker=ADDRESSES, evaluator=["c:1"])
    with pytest.raises(ValueError, match='must be a "chief" or a "worker"'):
        initialize()


def test_joining_late_is_refused_and_changes_nothing(environ):
    describe(environ, "worker", 0, worker=ADDRESSES)
    float(tf.constant(1.0) + 1.0)
    with pytest.raises(RuntimeError, match="first thing in the program"):
        initialize()
    assert not any(told_to_dtensor(environ).values())
    assert len(list_devices()) == 1


def test_joining_twice_changes_nothing(environ):
    describe(environ, "worker", 0, worker=ADDRESSES)
    with mock.patch.object(dtensor, JOIN):
        initialize()
    before = told_to_dtensor(environ)
    error = ValueError("Accelerator system has already been initialized.")
    describe(environ, "worker", 1, worker=ADDRESSES)
    with mock.patch.object(dtensor, JOIN, side_effect=error):
        with pytest.raises(RuntimeError, match="already been initialized"):
            initialize()
    assert told_to_dtensor(environ) == before


def test_another_backend_is_refused():
    with mock.patch.object(keras.backend, "backend", return_value="jax"):
        with pytest.raises(RuntimeError, match="TensorFlow backend alone"):
            initialize()


@pytest.fixture
def second_of_two(environ):
    """DTensor believes to be there twice; nothing is computed."""
    describe(environ, "worker", 1, worker=ADDRESSES)
    with mock.patch.object(dtensor, JOIN):
        initialize()


def full_name(task, index):
    return f"/job:worker/replica:0/task:{task}/device:CPU:{index}"


@pytest.fixture
def three_each(second_of_two):
    def of_client(kind, client):
        return [
            tf.DeviceSpec.from_string(full_name(client, i)) for i in range(3)
        ]

    with mock.patch.object(dtensor, "local_devices", of_client):
        yield


def test_a_mesh_has_equally_many_devices_of_each_process(three_each):
    names = device_mesh(batch=2, expert=2).devices.flatten().tolist()
    assert names == [full_name(task, i) for task in (0, 1) for i in (0, 1)]
    with pytest.raises(ValueError, match="3 devices, as many in each of 2"):
        device_mesh(expert=3)
    with pytest.raises(ValueError, match="8 devices, .* Found: 6"):
        device_mesh(expert=8)


def test_dtensor_knows_which_devices_are_here(three_each):
    names = [full_name(*place) for place in [(0, 0), (1, 0), (0, 1), (1, 1)]]
    mesh = dtensor_mesh(device_mesh(batch=2, expert=2, devices=names))
    assert mesh.dim_names == ["batch", "expert", "model"]
    assert mesh.local_devices() == [full_name(1, 0), full_name(1, 1)]
    places = [
        (place["batch"], place["expert"])
        for place in mesh.local_device_locations()
    ]
    assert places == [(0, 1), (1, 1)]


def test_a_mesh_of_other_numbers_is_refused(three_each):
    # Without a task it is one of this process.
    names = [full_name(0, 0), full_name(0, 1), full_name(1, 0), "cpu:1"]
    dtensor_mesh(device_mesh(expert=4, devices=names))
    names[-1] = full_name(0, 2)
    with pytest.raises(ValueError, match=r"Received: \[3, 1\] devices"):
        dtensor_mesh(device_mesh(expert=4, devices=names))
    with pytest.raises(ValueError, match=r"Received: \[0, 1\] devices"):
        dtensor_mesh(device_mesh(devices=["cpu:0"]))


@pytest.mark.parametrize("writes", [True, False])
def test_a_checkpoint_is_there_when_all_have_waited(tmp_path, writes):
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    path, seen = tmp_path / "checkpoint", []
    checkpoint = ShardedCheckpoint(
        model, writes=writes, wait=lambda: seen.append(path.exists())
    )
    checkpoint.save(path)
    assert seen == [writes]


def test_others_do_not_wait_for_a_checkpoint_that_fails(tmp_path):
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    wait = mock.Mock()
    checkpoint = ShardedCheckpoint(model, wait=wait)
    path = tmp_path / "checkpoint"
    with mock.patch(
        "keras_moe.training.checkpoints._sharded_checkpoint.write_arrays",
        side_effect=OSError("full"),
    ):
        with pytest.raises(OSError, match="full"):
            checkpoint.save(path)
    wait.assert_called_once_with()
    model.layers[0].bias.assign(np.full(2, np.nan))
    with pytest.raises(ValueError, match="must be finite"):
        checkpoint.save(path)
    # All processes have this error, and none waits.
    wait.assert_called_once_with()
