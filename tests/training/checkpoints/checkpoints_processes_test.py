"""Checkpoints are read and written by processes that come and go."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from keras_moe.training.checkpoints._array_file import read_arrays
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._position import Position
from tests.training.checkpoints.checkpoints_case import tiny
from tests.training.checkpoints.checkpoints_case import train_model
from tests.training.example_model import X
from tests.training.example_model import Y
from tests.training.example_model import assert_equal


@pytest.fixture(scope="module")
def trained():
    return train_model()


_OTHERS = """
import os
import sys

import keras
import numpy as np

from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._position import Position
from tests.training import example_model
from tests.training.checkpoints.checkpoints_case import tiny

def restore(folder):
    # Of another seed, and made after others.
    keras.random.SeedGenerator()
    for _ in range(2):
        example_model.make_model()
    model = example_model.make_built_model()
    checkpoints = Checkpoints(folder, asynchronous=False)
    print(checkpoints.restore(model).step, flush=True)
    checkpoints.save(model, Position(step=4))
    losses = model.train_on_batch(example_model.X, example_model.Y)
    print([loss.hex() for loss in losses], flush=True)

def write(folder):
    # What a training saves, without the training.
    model = tiny()
    checkpoints = Checkpoints(folder, keep=2, monitor="m")
    position = checkpoints.restore(model) or Position()
    print("begun", os.getpid(), position.step, flush=True)
    for step in range(position.step + 1, 10**9):
        model.layers[0].bias.assign(np.full(2, step, "float32"))
        checkpoints.save(model, Position(step=step), {"m": -step % 7})

print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        name, folder = line.strip().split(" ", 1)
        globals()[name](folder)
        os._exit(0)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


@pytest.fixture(scope="module")
def others():
    process = subprocess.Popen(
        [sys.executable, "-c", _OTHERS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[3],
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.stdin.close()
        process.kill()
        process.wait()


def test_restores_in_another_process(tmp_path, trained, others):
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    checkpoints.save(trained, Position(step=3))
    print("restore", tmp_path, file=others.stdin, flush=True)
    said = []
    while (line := others.stdout.readline().strip()) not in ("dead", ""):
        said.append(line)
    assert said[0] == "3"
    first, second = (read_arrays(path)[0] for path in checkpoints.paths)
    assert_equal(first, second)
    checkpoints.restore(trained)
    losses = trained.train_on_batch(X, Y)
    assert said[1] == str([loss.hex() for loss in losses])


def test_no_kill_makes_a_checkpoint_unreadable(tmp_path, others):
    choose = random.Random(0)
    model = tiny()
    checkpoints = Checkpoints(tmp_path, monitor="m")
    last, partial = 0, 0
    for kill in range(25):
        before = checkpoints.latest
        print("write", tmp_path, file=others.stdin, flush=True)
        _, child, begun = others.stdout.readline().split()
        try:
            assert int(begun) == last
            # Every other one saves something first, on the slowest machine.
            while kill % 2 and checkpoints.latest == before:
                time.sleep(0.001)
            time.sleep(choose.uniform(0, 0.15))
        finally:
            os.kill(int(child), signal.SIGKILL)
        assert others.stdout.readline() == "dead\n"
        partial += any(tmp_path.glob(".*.partial"))
        for path in checkpoints.paths:
            state, header = read_arrays(path)
            step = header["position"]["step"]
            assert state["model/layer/bias"].tolist() == [step, step]
        position = checkpoints.restore(model)
        if position is not None:
            assert position.step >= last
            last = position.step
    assert last >= 12 and partial > 0
    # Kills cut deletions off, too. Who comes next makes up for it.
    checkpoints = Checkpoints(tmp_path, monitor="m")
    assert not list(tmp_path.glob(".*.partial"))
    checkpoints.save(model, Position(step=last + 1), {"m": 0.0})
    checkpoints.wait()
    assert len(checkpoints.paths) <= 3 + 1
