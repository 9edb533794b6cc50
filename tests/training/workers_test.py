"""`MultiWorkerMirroredStrategy`: real processes on this machine."""

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

# Several processes that each start TensorFlow.
pytestmark = pytest.mark.large


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


def test_a_bad_batch_of_one_worker_is_left_out_by_all(tmp_path):
    first, second = reports(start("faults", tmp_path / "two", 2))
    (alone,) = reports(start("faults", tmp_path / "one", 0))
    assert first["skipped"] == second["skipped"] == [[0, 0], [1, 0]]
    assert first["skipped"] == alone["skipped"]
    assert_same_training(first, alone)
    assert_same_training(second, alone)


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
    for name, values in first["history"].items():
        assert values == whole["history"][name][1:], name
