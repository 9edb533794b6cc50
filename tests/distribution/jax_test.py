"""Keras's JAX backend on a mesh of eight logical CPU devices."""

import json

import numpy as np
import pytest

from tests.jax_program import run_on_jax

# Another environment is made, and many programs are compiled.
pytestmark = pytest.mark.large

ROUTERS = ["switch", "top_2", "expert_choice"]
MESHES = ["2x4", "1x8"]
EXPERT_DEVICES = {"2x4": 4, "1x8": 8}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jax")
    printed = run_on_jax("tests.distribution.jax_case", folder, devices=8)
    (line,) = [x for x in printed.splitlines() if x.startswith("REPORT")]
    said = json.loads(line.removeprefix("REPORT"))
    assert said["devices"] == 8
    return said


@pytest.fixture(params=ROUTERS)
def router(request):
    return request.param


@pytest.fixture(params=MESHES)
def mesh(request):
    return request.param


@pytest.fixture
def alone(said, router):
    return said["alone"][router]


@pytest.fixture
def on_mesh(said, router, mesh):
    return said["on_mesh"][f"{router} {mesh}"]


def test_the_mesh_trains_as_one_device(alone, on_mesh):
    losses = on_mesh["losses"]
    assert len(losses) == 10
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, alone["losses"], rtol=0, atol=1e-5)


def test_each_device_holds_its_part_of_the_experts(on_mesh, mesh):
    # Of kernels, and of both moments that Adam keeps of each.
    assert on_mesh["parts"] == [1 / EXPERT_DEVICES[mesh]] * 8


def test_fit_on_the_mesh_is_that_of_one_device(alone, on_mesh):
    np.testing.assert_allclose(
        on_mesh["fitted"], alone["fitted"], rtol=0, atol=1e-5
    )


def test_gather_gives_the_same_values_on_one_device(alone, on_mesh):
    assert on_mesh["gathered"]
    assert on_mesh["devices"] == 1
    np.testing.assert_allclose(
        on_mesh["evaluated"], alone["evaluated"], atol=1e-4
    )


def test_a_layer_exchanges_tokens_twice(on_mesh):
    assert on_mesh["all_to_alls"] == 2


def test_what_is_stored_is_restored_bit_for_bit(on_mesh):
    stored = on_mesh["stored"]
    assert stored["changed"]
    assert stored["restored"]
    assert stored["parts_stay"]
    assert stored["step"] == 10


def test_logs_have_no_metric_that_keras_loses(said):
    """Each was 0, while 84 % of the tokens were dropped."""
    assert said["reported"]["logs"] == ["loss", "val_loss"]
    # State that is no metric moves; outside of Keras's loops layers measure.
    assert said["reported"]["updates"] == 1
    assert said["reported"]["left_behind"] > 0.5


def test_features_are_picked(said):
    assert said["selected"] == {"picked": [2, 4], "step": 100}


def test_constrain_does_nothing_without_an_engine(said):
    assert said["identity"]
    assert said["identity_after"]
