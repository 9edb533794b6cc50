import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

from keras_moe.training.checkpoints import _checkpoints as checkpoints_module
from keras_moe.training.checkpoints._array_file import read_arrays
from keras_moe.training.checkpoints._array_file import write_arrays
from keras_moe.training.checkpoints._checkpoint_file import load_into
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._damaged_file_error import DamagedFileError
from keras_moe.training.checkpoints._position import Position
from keras_moe.weights._named_state import named_state
from tests.training.example_model import X
from tests.training.example_model import Y
from tests.training.example_model import assert_equal
from tests.training.example_model import make_built_model
from tests.training.example_model import make_model
from tests.training.example_model import values_of


@pytest.fixture(scope="module")
def trained():
    model = make_model()
    for _ in range(3):
        model.train_on_batch(X, Y)
    return model


def tiny(name="layer", width=3, dtype="float32"):
    layer = keras.layers.Dense(2, name=name, dtype=dtype)
    model = keras.Sequential([keras.Input([width]), layer])
    model.compile("adam", "mse")
    return model


def save_steps(checkpoints, model, *metrics):
    for step, value in enumerate(metrics):
        checkpoints.save(model, Position(step=step), {"m": value})
    checkpoints.wait()


def steps(checkpoints):
    return [read_arrays(p)[1]["position"]["step"] for p in checkpoints.paths]


# Makes a process for each line `NAME FOLDER`. It imports once, and forks before
# TensorFlow has threads that a fork would lose.
_OTHERS = """
import os
import sys

import keras
import numpy as np

from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._position import Position
from tests.training import example_model
from tests.training.checkpoints.checkpoints_test import tiny

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


def test_restores_all_and_training_goes_on_as_before(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    position = Position(1, 2, 3, ((0, 1),))
    checkpoints.save(trained, position)
    saved = values_of(trained)
    # Of another seed, and made after others.
    keras.utils.set_random_seed(99)
    make_model()
    model = make_built_model()
    checkpoints.wait()
    assert checkpoints.restore(model) == position
    assert_equal(values_of(model), saved)
    continued = [model.train_on_batch(X, Y) for _ in range(4)]
    assert checkpoints.restore(trained) == position
    assert [trained.train_on_batch(X, Y) for _ in range(4)] == continued


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


def test_what_training_does_after_save_does_not_enter(tmp_path, trained):
    saved = values_of(trained)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(trained, Position())
    trained.train_on_batch(X, Y)
    checkpoints.wait()
    assert_equal(read_arrays(checkpoints.latest)[0], saved)
    checkpoints.restore(trained)


def test_weights_for_serving(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path / "new", asynchronous=False)
    checkpoints.save(trained, Position(step=3))
    served = make_model(compiled=False)
    assert checkpoints.restore(served).step == 3
    served.save(tmp_path / "served.keras")
    loaded = keras.saving.load_model(tmp_path / "served.keras")
    expected = trained(X, training=False)
    assert np.array_equal(served(X, training=False), expected)
    assert np.array_equal(loaded(X, training=False), expected)
    # A compiled one's optimizer stays.
    other = make_built_model()
    before = values_of(other)
    load_into(checkpoints.latest, other, weights_only=True)
    for name, value in values_of(other).items():
        source = trained if name.startswith("model/") else None
        expected = values_of(source)[name] if source else before[name]
        assert np.array_equal(value, expected), name


def test_metrics_that_are_not_made_yet(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    checkpoints.save(trained, Position(step=3))
    fresh = make_model()
    before = values_of(fresh)
    with pytest.raises(ValueError, match="`build_state` makes them"):
        checkpoints.restore(fresh)
    after = values_of(fresh)
    assert_equal({name: after[name] for name in before}, before)
    # The other way round: what did not exist yet is as it begins.
    checkpoints.save(fresh, Position())
    model = make_model()
    model.train_on_batch(X, Y)
    assert checkpoints.restore(model) == Position()
    named = named_state(model)
    assert np.asarray(named["metrics/compile_metrics/mae/count"]) == 0
    assert np.asarray(named["metrics/loss/count"]) == 0


def test_another_model_is_refused_whole(tmp_path):
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    checkpoints.save(tiny(), Position())
    for other, rule in [
        (tiny("else"), "Missing: model/else/kernel.*unexpected: model/layer"),
        (tiny(width=4), r"kernel \(4, 2\) float32 \(is \(3, 2\) float32\)"),
        (tiny(dtype="float64"), r"bias \(2,\) float64 \(is \(2,\) float32\)"),
    ]:
        before = values_of(other)
        with pytest.raises(ValueError, match=rule):
            checkpoints.restore(other)
        assert_equal({k: values_of(other)[k] for k in before}, before)
    sgd = tiny()
    sgd.compile("sgd", "mse")
    with pytest.raises(ValueError, match="unexpected: optimizer/model/layer"):
        checkpoints.restore(sgd)


@pytest.mark.parametrize("naming", [None, 1, 3, "2"])
def test_another_naming_of_weights_is_refused_by_name(tmp_path, naming):
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    model = tiny()
    for step in range(2):
        checkpoints.save(model, Position(step=step))
    path = checkpoints.latest
    arrays, header = read_arrays(path)
    assert header.pop("naming") == 2
    if naming is not None:
        header["naming"] = naming
    write_arrays(path, arrays, header)
    model.layers[0].bias.assign([1.0, 2.0])
    before = values_of(model)
    with pytest.raises(ValueError, match=f"{path.name} was written with an"):
        # The one before it is no substitute: this one is not damaged.
        checkpoints.restore(model)
    with pytest.raises(ValueError, match=r"another naming.*version .*uses 2\)"):
        load_into(path, model, weights_only=True)
    assert_equal(values_of(model), before)


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
