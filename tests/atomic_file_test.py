import os
import signal

import pytest

from keras_moe.atomic_file import atomic_file
from keras_moe.atomic_file import remove_partial_files


def test_replaces_at_once(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "new"


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "file") as p:
        p.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_removes_what_the_dead_left_and_not_what_the_living_write(tmp_path):
    ready, now = os.pipe()
    # It writes a file and opens nothing else: fit for a fork.
    child = os.fork()
    if not child:
        with atomic_file(tmp_path / "theirs"):
            os.write(now, b"x")
            signal.pause()
    os.read(ready, 1)
    with atomic_file(tmp_path / "ours") as partial:
        remove_partial_files(tmp_path)
        assert len(list(tmp_path.iterdir())) == 2
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        remove_partial_files(tmp_path)
        assert list(tmp_path.iterdir()) == [partial]
    assert [p.name for p in tmp_path.iterdir()] == ["ours"]


def test_no_directory_is_nothing_to_remove(tmp_path):
    remove_partial_files(tmp_path / "none")
