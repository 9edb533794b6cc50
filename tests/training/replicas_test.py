"""`MirroredStrategy` of several devices, in processes of their own."""

import pytest

from tests import forked

pytestmark = pytest.mark.long


# To trace a mixture for two replicas takes seconds: by default, once, in
# layers/mirrored_test.py.
@pytest.mark.parametrize(
    "cases",
    [
        ["crossentropy", "refused", "topology"],
        pytest.param(
            ["own_loop", "topology_of_many", "crossentropy_of_a_mixture"],
            marks=pytest.mark.large,
        ),
        pytest.param(
            ["custom_train_steps", "faults", "keras_fit_of_layers"],
            marks=pytest.mark.large,
        ),
    ],
    ids=lambda cases: cases[0],
)
def test_replicas(cases):
    done = forked.run_module("tests.training.replicas_case", *cases)
    assert done.returncode == 0, done.stderr[-4000:]
