"""One mesh of the devices of two real processes on this machine."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from keras_moe import training
from tests.distribution import clients_case
from tests.training.workers_test import free_ports
from tests.training.workers_test import reports

# Several processes that each start TensorFlow.
pytestmark = pytest.mark.large

MESHES = ["experts", "both"]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Runs both processes; returns the folder and what each said."""
    folder = tmp_path_factory.mktemp("clients")
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        config = {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
        processes.append(
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.distribution.clients_case",
                    str(folder),
                ],
                env={**os.environ, "TF_CONFIG": json.dumps(config)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return folder, reports(processes, timeout=420)


@pytest.fixture(scope="module")
def alone():
    """The same training on one device: its losses, and the model."""
    model = clients_case.make_model()
    return clients_case.train(model), model


@pytest.mark.parametrize("mesh", MESHES)
def test_processes_train_as_one_device(said, alone, mesh):
    losses, model = alone
    folder, clients = said
    assert clients[0][mesh]["losses"] == clients[1][mesh]["losses"]
    np.testing.assert_allclose(
        clients[0][mesh]["losses"], losses, rtol=0, atol=1e-5
    )
    evaluated = model.evaluate(
        clients_case.batches(), verbose=0, return_dict=True
    )
    for client in clients:
        for name in ("loss", "mae"):
            np.testing.assert_allclose(
                client[mesh]["evaluated"][name], evaluated[name], atol=1e-5
            )


@pytest.mark.parametrize("mesh", MESHES)
def test_each_process_holds_half_of_the_experts(said, mesh):
    _, clients = said
    for client in clients:
        assert client[mesh]["parts"] == [0.5, 0.5]


@pytest.mark.parametrize("mesh", MESHES)
def test_both_gather_the_same_whole_weights(said, alone, mesh):
    folder, clients = said
    weights = [
        np.load(folder / mesh / f"weights_{client}.npz") for client in range(2)
    ]
    expected = alone[1].get_weights()
    assert len(weights[0].files) == len(weights[1].files) == len(expected)
    for name, value in zip(weights[0].files, expected, strict=True):
        np.testing.assert_array_equal(weights[0][name], weights[1][name])
        np.testing.assert_allclose(weights[0][name], value, atol=1e-4)
    assert all(client[mesh]["plain"] for client in clients)


@pytest.mark.parametrize("mesh", MESHES)
def test_the_first_writes_what_both_restore(said, mesh):
    folder, clients = said
    assert clients[0][mesh]["written"] == ["checkpoint"]
    assert clients[1][mesh]["written"] == []
    for client in clients:
        assert client[mesh]["restored"]
        assert client[mesh]["step"] == 8
    # And so does one device.
    model = clients_case.make_model(seed=1)
    training.build_state(model, next(iter(clients_case.batches())))
    training.load_into(folder / mesh / "0" / "checkpoint", model)
    weights = np.load(folder / mesh / "weights_0.npz")
    for name, value in zip(weights.files, model.get_weights(), strict=True):
        np.testing.assert_array_equal(weights[name], value)


def test_models_that_differ_are_refused_in_both(said):
    _, clients = said
    for client in clients:
        assert (
            "`model` must have the same values in all processes"
            in (client["different"])
        )
        assert "model/moe/experts/wi/kernel" in client["different"]
