"""`tf.distribute.MirroredStrategy`, in processes of their own."""

import pytest

from tests import forked

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    "cases",
    [
        ["losses_once"],
        pytest.param(
            ["losses_of_two_layers_once", "metrics_of_all_replicas"],
            marks=pytest.mark.large,
        ),
        pytest.param(
            [
                "global_balance",
                "random_feature_statistics",
                "selection_of_features",
            ],
            marks=pytest.mark.large,
        ),
    ],
    ids=lambda cases: cases[0],
)
def test_mirrored(cases):
    done = forked.run_module("tests.layers.mirrored_case", *cases)
    assert done.returncode == 0, done.stderr[-4000:]
