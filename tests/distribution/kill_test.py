import pytest

from benchmarks.sharding_parts.kills import kill_and_resume


@pytest.mark.parametrize(
    "num_kills", [3, pytest.param(20, marks=pytest.mark.large)]
)
def test_a_killed_training_goes_on_as_if_nothing_was(tmp_path, num_kills):
    figures = kill_and_resume(num_kills, tmp_path / "new")
    assert figures["kills"] == num_kills
    assert figures["kill_resumes"] == num_kills
    assert figures["unreadable_checkpoints"] == 0
