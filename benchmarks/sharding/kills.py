"""Kills trainings at random moments, and compares their losses."""

import json
import multiprocessing
import os
import pathlib
import random
import signal
import time
from collections.abc import Iterator

EPOCHS = 4
EXAMPLES, BATCH = 160, 4
_CURVE = "curve.jsonl"

# The seed of runs that begin a training. Runs that resume one get other seeds:
# all their numbers must come from the checkpoint.
_FIRST_SEED = 1


def kill_and_resume(
    num_kills: int, directory: str | os.PathLike, seed: int = 0
) -> dict[str, float]:
    """Trains once undisturbed, once killed again and again.

    Each run is a process that begins where the last checkpoint is, with another
    seed. It is killed a random time after it began, or after its first step; a
    run that is done before is no kill, and the next training begins.

    Args:
        num_kills: how many kills.
        directory: where to write; it must not exist.
        seed: of the moments.

    Returns:
        `kill_resumes`, how many of the kills were followed by losses that are
        the undisturbed training's, bit by bit; `unreadable_checkpoints`, found
        after a kill; `kills`, `trainings` and `kills_while_writing`, those that
        left a file half written.
    """
    # The fork server imports and computes nothing: a fork of a process in which
    # TensorFlow has started threads would lack them and hang.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras_moe.training", __name__])
    from keras_moe.training import Checkpoints
    from keras_moe.training import DamagedFileError
    from keras_moe.training import load_into

    directory = pathlib.Path(directory)
    directory.mkdir(parents=True)
    whole = directory / "undisturbed"
    _run(context, whole, 0).join()
    expected = dict(_losses(whole))
    if len(expected) != EPOCHS * EXAMPLES // BATCH:
        raise RuntimeError(
            "The undisturbed training must end. Received: a curve of "
            f"{len(expected)} steps."
        )
    reader = _make_model()
    choose = random.Random(seed)
    kills = resumes = unreadable = writing = trainings = run = 0
    while kills < num_kills:
        trainings += 1
        path = directory / f"killed-{trainings}"
        pending = 0
        while True:
            run += 1
            process = _run(context, path, run)
            killed = kills < num_kills and _kill(process, path, run, choose)
            process.join()
            losses = _losses(path, run)
            if losses or not process.exitcode:
                # The losses of this run show whether the training survived the
                # kills since the last progress.
                if all(expected[step] == loss for step, loss in losses):
                    resumes += pending
                pending = 0
            if not killed:
                break
            kills += 1
            pending += 1
            writing += any(path.glob(".*.partial"))
            for checkpoint in Checkpoints(path).paths:
                try:
                    load_into(checkpoint, reader, weights_only=True)
                except DamagedFileError:
                    unreadable += 1
        if process.exitcode:
            raise RuntimeError(
                "A training must end when it is not killed. Received: exit "
                f"code {process.exitcode} of run {run}."
            )
        if dict(_losses(path)) != expected:
            resumes = 0
    return {
        "kills": kills,
        "kill_resumes": resumes,
        "unreadable_checkpoints": unreadable,
        "kills_while_writing": writing,
        "trainings": trainings,
    }


def train(directory: pathlib.Path, run: int) -> None:
    """Trains to the end from the last checkpoint; notes each step's loss.

    Args:
        directory: of checkpoints and the curve.
        run: number of the process.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_moe.training import Checkpoints
    from keras_moe.training import Trainer

    checkpoints = Checkpoints(directory, keep=2, every=3, monitor="loss")
    begun = checkpoints.latest is not None
    keras.utils.set_random_seed(1000 + run if begun else _FIRST_SEED)
    model = _make_model()
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=[EXAMPLES, 6, 8]).astype("float32")
    y = np.sort(x, axis=1)[..., :3]

    def of_epoch(epoch: int) -> tf.data.Dataset:
        # NumPy shuffles, because the order of `tf.data`'s `shuffle` also
        # depends on the process's global seed.
        order = np.random.default_rng(epoch).permutation(EXAMPLES)
        return tf.data.Dataset.from_tensor_slices((x[order], y[order])).batch(
            BATCH
        )

    with open(directory / _CURVE, "a", buffering=1) as curve:

        def note(batch: int, logs: dict[str, float]) -> None:
            step = int(model.optimizer.iterations)
            line = [run, step, {k: float(v).hex() for k, v in logs.items()}]
            # The line break comes first: a kill may have cut off the line
            # before.
            curve.write("\n" + json.dumps(line) + "\n")

        callback = keras.callbacks.LambdaCallback(on_train_batch_end=note)
        Trainer(model, checkpoints).fit(
            of_epoch, epochs=EPOCHS, callbacks=[callback], verbose=0
        )


def _make_model():
    """Returns a model with all sorts of state: seeds, statistics, slots."""
    import keras

    import keras_moe

    inputs = keras.Input([6, 8])
    attention = keras_moe.layers.RandomFeatureAttention(
        num_heads=2,
        key_dim=4,
        num_random_features=8,
        redraw_interval=5,
        exact_below=None,
    )
    x = keras.layers.Add()([inputs, attention(inputs, inputs)])
    x = keras.layers.Dropout(0.1)(x)
    router = keras_moe.layers.BiasBalancedRouter(
        num_selected_experts=2, jitter_noise=0.1
    )
    moe = keras_moe.layers.SparseMoE(4, 16, router=router)
    x = keras.layers.Add()([x, moe(x)])
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    model.compile("adam", "mse", metrics=["mae"])
    return model


def _run(context, directory: pathlib.Path, run: int):
    directory.mkdir(exist_ok=True)
    process = context.Process(target=train, args=(directory, run))
    process.start()
    return process


def _kill(
    process, directory: pathlib.Path, run: int, choose: random.Random
) -> bool:
    """Kills a run at a random moment; `False` if the run ended first."""
    # One run in four is killed while it starts, the others while they train.
    if choose.random() < 0.75:
        while process.is_alive() and not _losses(directory, run):
            time.sleep(0.01)
    process.join(choose.uniform(0.0, 1.0))
    if not process.is_alive():
        return False
    os.kill(process.pid, signal.SIGKILL)
    return True


def _losses(
    directory: pathlib.Path, run: int | None = None
) -> list[tuple[int, str]]:
    """Returns steps with what was logged after each, of one run or of all."""
    return [
        (step, json.dumps(logs))
        for own, step, logs in _lines(directory / _CURVE)
        if run in (None, own)
    ]


def _lines(path: pathlib.Path) -> Iterator[list]:
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        # A line that a kill cut in two is no JSON: leave it out.
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue
