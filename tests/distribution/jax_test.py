"""Keras's JAX backend on a mesh of eight logical CPU devices.

JAX is in an environment of its own, which is added to that of the tests.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.shared import environment

# Another environment is made, and many programs are compiled.
pytestmark = pytest.mark.large

ROUTERS = ["switch", "top_2", "expert_choice"]
MESHES = ["2x4", "1x8"]
EXPERT_DEVICES = {"2x4": 4, "1x8": 8}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    python = environment.make("jax")
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    paths = [os.environ.get("PYTHONPATH"), str(packages)]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.distribution.jax_case",
            str(tmp_path_factory.mktemp("jax")),
        ],
        cwd=environment.ROOT,
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        },
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert not done.returncode, done.stderr[-3000:]
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("REPORT")]
    said = json.loads(line.removeprefix("REPORT"))
    assert said["devices"] == 8
    return said


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("router", ROUTERS)
def test_the_mesh_trains_as_one_device(said, router, mesh):
    trained = said["trained"][f"{router} {mesh}"]
    assert len(trained["losses"]) == 10
    assert trained["losses"][-1] < trained["losses"][0]
    np.testing.assert_allclose(
        trained["losses"], said[router], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("router", ROUTERS)
def test_each_device_holds_its_part_of_the_experts(said, router, mesh):
    parts = said["trained"][f"{router} {mesh}"]["parts"]
    # Of kernels, and of both moments that Adam keeps of each.
    assert parts == [1 / EXPERT_DEVICES[mesh]] * 8


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("router", ROUTERS)
def test_gather_gives_the_same_values_on_one_device(said, router, mesh):
    trained = said["trained"][f"{router} {mesh}"]
    assert trained["gathered"]
    assert trained["devices"] == 1
    np.testing.assert_allclose(
        trained["evaluated"], trained["expected"], atol=1e-4
    )


@pytest.mark.parametrize("mesh", MESHES)
def test_fit_on_the_mesh_is_that_of_one_device(said, mesh):
    np.testing.assert_allclose(
        said["fitted"][mesh], said["fitted"]["None"], rtol=0, atol=1e-5
    )


def test_logs_have_no_metric_that_keras_loses(said):
    """Each was 0, while 84 % of the tokens were dropped."""
    assert said["reported"]["logs"] == ["loss", "val_loss"]
    # Outside of Keras's loops the layers measure: training moves features.
    assert said["reported"]["left_behind"] > 0.5
    assert said["reported"]["updates"] == 2


def test_features_are_picked(said):
    assert said["selected"] == {"picked": [2, 4], "step": 100}


@pytest.mark.parametrize("mesh", MESHES)
def test_a_layer_exchanges_tokens_twice(said, mesh):
    assert said["stored"][mesh]["all_to_alls"] == 2


@pytest.mark.parametrize("mesh", MESHES)
def test_what_is_stored_is_restored_bit_for_bit(said, mesh):
    stored = said["stored"][mesh]
    assert stored["changed"]
    assert stored["restored"]
    assert stored["parts_stay"]
    assert stored["step"] == 10


def test_constrain_does_nothing_without_an_engine(said):
    assert said["identity"]
    assert said["identity_after"]
