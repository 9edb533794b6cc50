import subprocess
import sys

import pytest

from keras_moe.orchestration import AnotherRunnerError
from keras_moe.orchestration import only_runner

HOLD = """
import pathlib, sys
from keras_moe.orchestration import only_runner
with only_runner(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "metadata.sqlite")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_refused_and_told_by_whom(tmp_path, holder):
    with pytest.raises(AnotherRunnerError) as raised:
        with only_runner(tmp_path / "metadata.sqlite"):
            raise AssertionError("two at once")
    assert f"process {holder.pid}" in str(raised.value)
    assert "metadata.sqlite" in str(raised.value)


def test_a_killed_one_holds_nothing(tmp_path, holder):
    holder.kill()
    holder.wait()
    with only_runner(tmp_path / "metadata.sqlite"):
        assert (tmp_path / "metadata.sqlite.lock").exists()


def test_one_after_the_other(tmp_path):
    for _ in range(2):
        with only_runner(tmp_path / "new" / "metadata.sqlite"):
            pass
