"""One runner at a time, whatever becomes of it."""

import contextlib
import os
import signal
import sqlite3
import sys

import pytest

from keras_moe.orchestration import AnotherRunnerError
from keras_moe.orchestration import only_runner


class Holder:
    """A fork of this process that holds the metadata until it is killed."""

    def __init__(self, path):
        reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            with only_runner(path):
                os.write(writer, b"held")
                signal.pause()
        assert os.read(reader, 4) == b"held"
        os.close(reader)
        os.close(writer)

    def kill(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


@pytest.fixture
def holder(tmp_path):
    holder = Holder(tmp_path / "metadata.sqlite")
    yield holder
    holder.kill()


def test_the_second_is_refused_and_told_by_whom(tmp_path, holder):
    with pytest.raises(AnotherRunnerError) as raised:
        with only_runner(tmp_path / "metadata.sqlite"):
            raise AssertionError("two at once")
    assert f"process {holder.pid}" in str(raised.value)
    assert "metadata.sqlite" in str(raised.value)


def test_a_killed_one_holds_nothing(tmp_path, holder):
    holder.kill()
    with only_runner(tmp_path / "metadata.sqlite"):
        assert (tmp_path / "metadata.sqlite.lock").exists()


def test_one_after_the_other(tmp_path):
    for _ in range(2):
        with only_runner(tmp_path / "new" / "metadata.sqlite"):
            pass


def test_metadata_that_another_program_writes_are_named_soon(
    tmp_path, monkeypatch
):
    module = sys.modules[only_runner.__module__]
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    path = tmp_path / "metadata.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN EXCLUSIVE")
        with (
            pytest.raises(AnotherRunnerError, match="Another program keeps"),
            only_runner(path),
        ):
            pass
        other.rollback()
        with only_runner(path):
            pass
