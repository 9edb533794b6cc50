"""Checkpoints are read and written by processes that come and go."""

import multiprocessing
import os
import random
import signal
import time

import keras
import numpy as np
import pytest

from keras_moe.training.checkpoints._array_file import read_arrays
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._position import Position
from tests import forked
from tests.training.checkpoints.checkpoints_case import tiny
from tests.training.checkpoints.checkpoints_case import train_model
from tests.training.example_model import X
from tests.training.example_model import Y
from tests.training.example_model import assert_equal
from tests.training.example_model import make_built_model
from tests.training.example_model import make_model


@pytest.fixture(scope="module")
def trained():
    return train_model()


def restore(connection, folder):
    # Of another seed, and made after others.
    keras.random.SeedGenerator()
    for _ in range(2):
        make_model()
    model = make_built_model(run_eagerly=True)
    checkpoints = Checkpoints(folder, asynchronous=False)
    step = checkpoints.restore(model).step
    checkpoints.save(model, Position(step=4))
    connection.send((step, model.train_on_batch(X, Y)))


def write(connection, folder):
    # What a training saves, without the training.
    model = tiny()
    checkpoints = Checkpoints(folder, keep=2, monitor="m")
    position = checkpoints.restore(model) or Position()
    connection.send((os.getpid(), position.step))
    for step in range(position.step + 1, 10**9):
        model.layers[0].bias.assign(np.full(2, step, "float32"))
        checkpoints.save(model, Position(step=step), {"m": -step % 7})


def fork_others(connection):
    """Calls functions, each in a process that is forked for it."""
    while True:
        function, folder = connection.recv()
        child = os.fork()
        if not child:
            function(connection, folder)
            os._exit(0)
        os.waitpid(child, 0)
        connection.send("dead")


@pytest.fixture(scope="module")
def others():
    connection, theirs = multiprocessing.Pipe()
    process = forked.start(fork_others, theirs)
    theirs.close()
    try:
        yield connection
    finally:
        process.kill()
        process.join()


def test_restores_in_another_process(tmp_path, trained, others):
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    checkpoints.save(trained, Position(step=3))
    others.send((restore, tmp_path))
    step, their_losses = others.recv()
    assert others.recv() == "dead"
    assert step == 3
    first, second = (read_arrays(path)[0] for path in checkpoints.paths)
    assert_equal(first, second)
    checkpoints.restore(trained)
    np.testing.assert_array_equal(trained.train_on_batch(X, Y), their_losses)


@pytest.mark.parametrize(
    "kills", [6, pytest.param(12, marks=pytest.mark.large)]
)
def test_no_kill_makes_a_checkpoint_unreadable(tmp_path, others, kills):
    choose = random.Random(0)
    model = tiny()
    checkpoints = Checkpoints(tmp_path, monitor="m")
    last, partial = 0, 0
    for kill in range(25):
        before = checkpoints.latest
        others.send((write, tmp_path))
        child, begun = others.recv()
        try:
            assert begun == last
            # Every other one saves something first, on the slowest machine.
            while kill % 2 and checkpoints.latest == before:
                time.sleep(0.001)
            time.sleep(choose.uniform(0, 0.15))
        finally:
            os.kill(child, signal.SIGKILL)
        assert others.recv() == "dead"
        partial += any(tmp_path.glob(".*.partial"))
        for path in checkpoints.paths:
            state, header = read_arrays(path)
            step = header["position"]["step"]
            assert state["model/layer/bias"].tolist() == [step, step]
        position = checkpoints.restore(model)
        if position is not None:
            assert position.step >= last
            last = position.step
        if kill >= kills and last >= 6 and partial:
            break
    assert last >= 6 and partial
    # Kills cut deletions off, too. Who comes next makes up for it.
    checkpoints = Checkpoints(tmp_path, monitor="m")
    assert not list(tmp_path.glob(".*.partial"))
    checkpoints.save(model, Position(step=last + 1), {"m": 0.0})
    checkpoints.wait()
    assert len(checkpoints.paths) <= 3 + 1
