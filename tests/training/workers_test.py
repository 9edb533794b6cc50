"""One worker; and `MultiWorkerMirroredStrategy`, by real processes."""

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.training import Position
from keras_moe.training import WorkerLostError
from keras_moe.training._workers import Workers

# Several processes that each start TensorFlow.
large = pytest.mark.large


class Cluster(tf.distribute.cluster_resolver.SimpleClusterResolver):
    """A cluster as `TF_CONFIG` describes it, of which nothing is started."""

    def __init__(self, task_type, task_id, **tasks):
        spec = tf.train.ClusterSpec(
            {
                name: [f"host{i}:1" for i in range(number)]
                for name, number in tasks.items()
            }
        )
        super().__init__(spec, task_type=task_type, task_id=task_id)


class NotStarted(tf.distribute.MultiWorkerMirroredStrategy):
    """A strategy of several workers that does not wait for the others."""

    def __init__(self, resolver):
        self.resolver = resolver

    @property
    def cluster_resolver(self):
        return self.resolver


def workers_of(*arguments, **tasks):
    return Workers(NotStarted(Cluster(*arguments, **tasks)))


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(case, directory, number):
    """Starts as many workers; a single process for 0."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(number)]
    processes = []
    for index in range(max(number, 1)):
        environment = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
        if number:
            environment["TF_CONFIG"] = json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            )
        command = [sys.executable, "-m", "tests.training.workers_case"]
        processes.append(
            subprocess.Popen(
                [*command, case, str(directory)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def reports(processes, timeout=240):
    """Returns what each said in the end, None if nothing."""
    said = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=timeout)
            lines = [
                line for line in out.splitlines() if line.startswith("REPORT")
            ]
            assert lines or process.returncode == 7, err[-3000:]
            said.append(json.loads(lines[-1][7:]) if lines else None)
            if said[-1] is not None:
                said[-1]["out"] = out
    finally:
        for process in processes:
            process.kill()
    return said


def assert_same_training(received, expected):
    assert set(received["history"]) == set(expected["history"])
    for name, values in expected["history"].items():
        if name.endswith(("expert_usage", "router_confidence")):
            continue  # over slots, whose number is a replica's own
        np.testing.assert_allclose(
            received["history"][name], values, rtol=1e-4, err_msg=name
        )
    for mine, theirs in zip(
        received["weights"], expected["weights"], strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


def test_one_worker_agrees_with_itself():
    workers = Workers(tf.distribute.get_strategy())
    assert (workers.index, workers.is_chief, workers.are_many) == (
        0,
        True,
        False,
    )
    assert workers.sum(2.5) == 2.5
    assert workers.any(True) and not workers.any(False)
    assert not workers.differ(0.1)
    workers.barrier()


def test_sums_over_replicas_are_those_of_workers():
    """Two workers of one replica each, played by two replicas."""
    workers = Workers(tf.distribute.MirroredStrategy(["CPU:0"]))
    workers.are_many = True
    # A sum over its own replica alone: this worker.
    assert workers.sum(3.0) == 3.0
    assert workers.any(True) and not workers.any(False)
    assert not workers.differ(7.0)


@pytest.mark.parametrize(
    "task, tasks, chief, many",
    [
        (("worker", 0), {"worker": 2}, True, True),
        (("worker", 1), {"worker": 2}, False, True),
        (("chief", 0), {"chief": 1, "worker": 1}, True, True),
        (("worker", 0), {"chief": 1, "worker": 1}, False, True),
        (("worker", 0), {"worker": 1}, True, False),
    ],
)
def test_one_worker_is_the_chief(task, tasks, chief, many):
    workers = workers_of(*task, **tasks)
    assert workers.index == task[1]
    assert workers.is_chief is chief
    assert workers.are_many is many


def test_a_lost_worker_is_an_error_that_says_where():
    workers = workers_of("worker", 0, worker=2)
    lost = tf.errors.UnavailableError(None, None, "the other is gone")
    with (
        pytest.raises(
            WorkerLostError, match="epoch 2, batch 5.*other is gone"
        ) as error,
        workers.watched(lambda: Position(2, 5)),
    ):
        raise lost
    assert (error.value.epoch, error.value.batch) == (2, 5)
    assert error.value.__cause__ is lost


def test_other_errors_are_left_alone():
    lost = tf.errors.UnavailableError(None, None, "")
    alone = Workers(tf.distribute.get_strategy())
    with pytest.raises(tf.errors.UnavailableError), alone.watched(Position):
        raise lost
    many = workers_of("worker", 0, worker=2)
    with pytest.raises(KeyError), many.watched(Position):
        raise KeyError


@large
def test_workers_train_as_one(tmp_path):
    processes = start("losses", tmp_path, 2)
    first, second = reports(processes)
    (alone,) = reports(start("losses", tmp_path, 0))
    assert first["history"] == second["history"]
    assert first["weights"] == second["weights"]
    assert_same_training(first, alone)
    assert first["stopped"] == second["stopped"] == 1
    # The chief alone shows progress.
    assert "Epoch 1/2" in first["out"]
    assert "Epoch" not in second["out"]


@large
def test_a_bad_batch_of_one_worker_is_left_out_by_all(tmp_path):
    first, second = reports(start("faults", tmp_path / "two", 2))
    (alone,) = reports(start("faults", tmp_path / "one", 0))
    assert first["skipped"] == second["skipped"] == [[0, 0], [1, 0]]
    assert first["skipped"] == alone["skipped"]
    assert_same_training(first, alone)
    assert_same_training(second, alone)


@large
def test_a_lost_worker_is_noticed_and_training_resumes(tmp_path):
    processes = start("lost", tmp_path / "lost", 2)
    processes[1].wait(timeout=240)
    begin = time.monotonic()
    first, second = reports(processes)
    assert second is None
    assert first["kind"] == "WorkerLostError"
    assert "A worker was lost at epoch 1, batch 2" in first["error"]
    assert time.monotonic() - begin < 60
    first, second = reports(start("resumed", tmp_path / "lost", 2))
    whole, _ = reports(start("resumed", tmp_path / "whole", 2))
    # Bit for bit.
    assert first["weights"] == second["weights"] == whole["weights"]
    assert first["history"] == whole["history"]
