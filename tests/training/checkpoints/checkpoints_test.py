"""What is kept of many checkpoints, and what becomes of damaged ones."""

import pathlib
import threading

import numpy as np
import pytest

from keras_moe.training.checkpoints import _checkpoints as checkpoints_module
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._damaged_file_error import DamagedFileError
from keras_moe.training.checkpoints._position import Position
from tests.training.checkpoints.checkpoints_case import save_steps
from tests.training.checkpoints.checkpoints_case import steps
from tests.training.checkpoints.checkpoints_case import tiny


def test_keeps_the_last_and_the_best(tmp_path):
    model = tiny()
    checkpoints = Checkpoints(tmp_path, keep=2, monitor="m")
    save_steps(checkpoints, model, 3.0, 1.0, float("nan"), 1.0, 2.0, 5.0)
    assert steps(checkpoints) == [1, 4, 5]
    # It is known to another process, which goes on.
    again = Checkpoints(tmp_path, keep=2, monitor="m")
    assert again.best == checkpoints.best
    save_steps(again, model, 4.0)
    assert steps(again) == [1, 5, 0]
    assert again.latest.name == "checkpoint-00000007.h5"
    assert again.restore_best(model).step == 1
    save_steps(again, model, 0.5)
    assert steps(again) == [0, 0]
    assert Checkpoints(tmp_path, monitor="m", mode="max").restore_best(
        model
    ) == Position(step=0)


def test_without_monitor_there_is_no_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert checkpoints.restore(tiny()) is None
    assert checkpoints.latest is None and checkpoints.paths == ()
    save_steps(checkpoints, tiny(), 1.0, 2.0)
    assert checkpoints.best is None
    assert checkpoints.restore_best(tiny()) is None
    assert steps(checkpoints) == [1]


def test_damaged_ones_are_passed_over_by_name(tmp_path):
    checkpoints = Checkpoints(tmp_path, monitor="m")
    model = tiny()
    save_steps(checkpoints, model, 1.0, 2.0, 3.0)
    first, second, third = checkpoints.paths
    third.write_bytes(third.read_bytes()[:-10])
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1
    second.write_bytes(content)
    with pytest.warns(UserWarning) as warned:
        assert checkpoints.restore(model).step == 0
    assert third.name in str(warned[0].message)
    assert second.name in str(warned[1].message)
    with pytest.raises(DamagedFileError, match=second.name):
        checkpoints.restore(model, second)
    first.write_bytes(b"")
    with pytest.raises(DamagedFileError), pytest.warns(UserWarning):
        checkpoints.restore(model)
    # The next one is the last again.
    save_steps(checkpoints, model, 4.0)
    assert checkpoints.latest.name == "checkpoint-00000004.h5"
    assert checkpoints.restore(model).step == 0


def test_damaged_best_is_passed_over(tmp_path):
    checkpoints = Checkpoints(tmp_path, monitor="m")
    model = tiny()
    save_steps(checkpoints, model, 3.0, 1.0, 2.0)
    content = bytearray(checkpoints.best.read_bytes())
    content[-1] ^= 1
    checkpoints.best.write_bytes(content)
    with pytest.warns(UserWarning, match="left out"):
        assert checkpoints.restore_best(model).step == 2


def test_what_is_not_finite_is_not_saved(tmp_path):
    model = tiny()
    model.layers[0].bias.assign([0.0, np.nan])
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(ValueError, match="'model/layer/bias' after step 7"):
        checkpoints.save(model, Position(step=7))
    assert checkpoints.paths == ()
    model.layers[0].bias.assign([0.0, 0.0])
    model.metrics_variables[0].assign(-np.inf)
    checkpoints.save(model, Position())
    checkpoints.wait()
    assert len(checkpoints.paths) == 1


def test_the_writing_threads_error_is_raised_once(tmp_path, monkeypatch):
    def fail(*args):
        args[0].write_bytes(b"half")
        raise OSError("disk full")

    checkpoints = Checkpoints(tmp_path)
    model = tiny()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints_module, "write_arrays", fail)
        checkpoints.save(model, Position())
        with pytest.raises(OSError, match="disk full"):
            checkpoints.save(model, Position(step=1))
    assert not list(tmp_path.iterdir())
    checkpoints.save(model, Position(step=2))
    checkpoints.wait()
    assert steps(checkpoints) == [2]


def test_one_write_at_a_time(tmp_path, monkeypatch):
    running = []
    may_write = threading.Event()

    def write(*args):
        running.append(1)
        assert len(running) == 1
        may_write.wait(60)
        original(*args)
        running.pop()

    original = checkpoints_module.write_arrays
    monkeypatch.setattr(checkpoints_module, "write_arrays", write)
    checkpoints = Checkpoints(tmp_path, keep=9)
    checkpoints.save(tiny(), Position())
    assert not checkpoints.paths  # it has returned before
    may_write.set()
    save_steps(checkpoints, tiny(), *range(3))
    assert len(checkpoints.paths) == 4


def test_removal_may_be_interrupted_anywhere(tmp_path, monkeypatch):
    model = tiny()
    checkpoints = Checkpoints(tmp_path, keep=9, monitor="m")
    save_steps(checkpoints, model, 0.0, 1.0, 2.0, 3.0, 4.0)
    checkpoints = Checkpoints(tmp_path, keep=1, monitor="m", asynchronous=False)
    original = pathlib.Path.unlink
    removed = []

    def unlink(path, **kwargs):
        if len(removed) == 2:
            raise KeyboardInterrupt
        removed.append(path)
        original(path, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(model, Position(step=9), {"m": 5.0})
    assert steps(checkpoints) == [0, 3, 4, 9]
    assert checkpoints.restore(model).step == 9
    checkpoints.save(model, Position(step=10), {"m": 5.0})
    assert steps(checkpoints) == [0, 10]


@pytest.mark.parametrize(
    "arguments", [{"keep": 0}, {"every": 0}, {"mode": "least"}]
)
def test_arguments_are_checked(tmp_path, arguments):
    with pytest.raises(ValueError, match="Received"):
        Checkpoints(tmp_path, **arguments)
