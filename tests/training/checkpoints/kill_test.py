import pytest

from benchmarks.sharding.kills import kill_and_resume


@pytest.mark.large
def test_a_killed_training_goes_on_as_if_nothing_was(tmp_path):
    figures = kill_and_resume(20, tmp_path / "new")
    assert figures["kills"] == 20
    assert figures["kill_resumes"] == 20
    assert figures["unreadable_checkpoints"] == 0
