"""A killed training of a benchmark goes on, in a place of its own settings."""

import contextlib
import json
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.shared import kept_checkpoints
from benchmarks.shared.learning_curve import LearningCurve
from keras_moe.training import Trainer

SETTINGS = {"seed": 1, "schedule": {"steps": 6}}


class Killed(BaseException):
    """What a kill is to the process that trains."""


@pytest.fixture
def data():
    x = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
    y = x[:, :1] * x[:, 1:2]
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


def make_model():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model


def train(data, folder, kill_at=None, settings=SETTINGS):
    """Trains four epochs, or is killed as one begins.

    Returns:
        Steps and figures of the curve, and the epochs that were trained.
    """
    model = make_model()
    curve = LearningCurve(
        lambda: {"sum": float(sum(np.sum(w) for w in model.weights))}
    )
    epochs = []

    def begin(epoch, logs):
        if epoch == kill_at:
            raise Killed
        epochs.append(epoch)

    kill = keras.callbacks.LambdaCallback(on_epoch_begin=begin)
    with contextlib.suppress(Killed):
        with kept_checkpoints.kept_checkpoints(
            folder, "small", settings
        ) as checkpoints:
            Trainer(model, checkpoints).fit(
                data, 4, callbacks=[curve, kill], verbose=0
            )
    return [(point["step"], point["sum"]) for point in curve.points], epochs


def test_goes_on_to_the_same_figures(data, tmp_path):
    expected, _ = train(data, tmp_path)
    assert [step for step, _ in expected] == [3, 6, 9, 12]
    assert not list(tmp_path.iterdir())

    before, _ = train(data, tmp_path, kill_at=3)
    after, epochs = train(data, tmp_path)

    assert before == expected[:3]
    assert epochs == [3]
    assert after == expected
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_passed_over(data, tmp_path):
    expected, _ = train(data, tmp_path)
    train(data, tmp_path, kill_at=3)
    last = sorted(tmp_path.glob("small-*/checkpoint-*.h5"))[-1]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)

    with pytest.warns(UserWarning, match="was left out"):
        after, epochs = train(data, tmp_path)

    assert epochs == [2, 3]
    assert after == expected


def test_other_settings_or_other_code_begin_anew(data, tmp_path, monkeypatch):
    train(data, tmp_path, kill_at=3)

    _, epochs = train(data, tmp_path, settings={**SETTINGS, "seed": 2})
    assert epochs == [0, 1, 2, 3]
    monkeypatch.setattr(kept_checkpoints, "code", lambda: "another")
    _, epochs = train(data, tmp_path)
    assert epochs == [0, 1, 2, 3]
    monkeypatch.undo()
    _, epochs = train(data, tmp_path)
    assert epochs == [3]


def test_the_code_is_that_of_every_file(tmp_path, monkeypatch):
    source = tmp_path / "keras_moe" / "layers" / "layer.py"
    source.parent.mkdir(parents=True)
    monkeypatch.setattr(kept_checkpoints, "ROOT", tmp_path)
    found = []
    for text in ("x = 1\n", "x = 2\n", "x = 1\n"):
        source.write_text(text)
        found.append(kept_checkpoints.code.__wrapped__())

    assert found[0] == found[2] != found[1]


# Prints each evaluation; the first process is killed when it has said three.
PROGRAM = """
    import pathlib, sys
    import numpy as np
    from benchmarks.switch_pretraining import corpus as corpora
    from benchmarks.switch_pretraining.model import Sizes, Variant
    from benchmarks.switch_pretraining.run import Schedule, train

    choose = np.random.default_rng(0).choice
    speeches = {
        f"{n}.txt": "".join(choose(list("abcd "), 300)) for n in range(40)
    }
    train(
        corpora.make_corpus(speeches, 64),
        Sizes(model_dim=16, hidden_dim=8, num_heads=2),
        Variant("switch_e4", 4),
        Schedule(
            steps=14, rows=8, warmup=2, steps_per_evaluation=2, held_out_rows=16
        ),
        seed=5,
        folder=pathlib.Path(sys.argv[1]),
        on_point=lambda point: print(point.step, point.loss.hex(), flush=True),
    )
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.large
def test_a_benchmark_that_is_killed_ends_with_the_same_losses(tmp_path):
    whole = start(tmp_path / "whole").communicate(timeout=300)[0].splitlines()
    killed = start(tmp_path / "killed")
    before = [killed.stdout.readline().strip() for _ in range(3)]
    killed.kill()
    killed.communicate()
    after = start(tmp_path / "killed").communicate(timeout=300)[0].splitlines()

    assert before == whole[:3]
    # At least the evaluations before the kill were not made again.
    assert 0 < len(after) <= len(whole) - 2
    assert after == whole[-len(after) :]
    curves = [
        [point["loss"] for point in json.loads(path.read_text())["curve"]]
        for path in (
            pathlib.Path(tmp_path, name, "switch_e4_seed_5.json")
            for name in ("whole", "killed")
        )
    ]
    assert curves[0] == curves[1] and len(curves[0]) == 7
    assert len(list((tmp_path / "killed").iterdir())) == 1
