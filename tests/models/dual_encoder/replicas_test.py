"""Two devices, in a process that makes them before TensorFlow starts."""

import pytest

from tests import forked


@pytest.mark.large
def test_replicas_have_candidates_of_their_own():
    done = forked.run_module("tests.models.dual_encoder.replicas_case")
    assert done.returncode == 0, done.stderr[-4000:]
