"""What every test starts from: a quiet TensorFlow and a fixed seed."""

import gc
import os
import random

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# There is a worker a core: threads of their own only get in each other's way.
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import hypothesis
import numpy as np
import pytest

# Garbage is looked for after so many new objects; a layer makes some thousand.
gc.set_threshold(10_000)

SEED = 20240607

# Derandomised: a red run on one machine is red on every machine.
hypothesis.settings.register_profile(
    "keras_moe", deadline=None, max_examples=20, derandomize=True
)
hypothesis.settings.load_profile("keras_moe")


def pytest_configure(config):
    # Tiny tests have single experts and single keys.
    config.addinivalue_line(
        "filterwarnings", "ignore:You are using a softmax over axis"
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Imports without collecting garbage: a third of the time, for nothing."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items):
    """Puts the files that take longest first.

    Of several workers each takes one file after the other: it would run a long
    one alone, if that came last.
    """
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True, scope="module")
def forget_the_living():
    """Leaves what imports and earlier files made out of garbage collections.

    Thousands of tests leave much behind, and Keras collects garbage for each
    layer that it quantises or gives LoRA: for a model, half a minute.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def seed_tensorflow():
    """Seeds TensorFlow's own numbers once a file.

    TensorFlow then forgets what it has optimised: done before each test, this
    takes an eighth of the time of all.
    """
    # Late: whoever hands tests on to workers does not need TensorFlow.
    import keras

    keras.utils.set_random_seed(SEED)


@pytest.fixture(autouse=True)
def seed(seed_tensorflow):
    """Seeds what Keras and NumPy draw: weights, and the seeds of layers."""
    random.seed(SEED)
    np.random.seed(SEED)


@pytest.fixture(
    params=[
        pytest.param(True, id="eager"),
        pytest.param(False, id="graph", marks=pytest.mark.large),
    ]
)
def run_eagerly(request):
    """How a model is compiled: a few steps take less time than their graph."""
    return request.param


@pytest.fixture
def servers_look_often(monkeypatch):
    """A version is loaded at the second look, which takes a second otherwise.

    For servers that a test does not start itself, such as those of examples.
    """
    from keras_moe.serving import Server

    defaults = Server.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "poll_seconds", 0.05)


@pytest.fixture(
    params=[
        pytest.param(True, id="eager"),
        pytest.param(False, id="as_it_stands", marks=pytest.mark.large),
    ]
)
def functions_run_eagerly(request):
    """How an example runs: to make its graphs takes longer than the rest."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(request.param)
    yield
    tf.config.run_functions_eagerly(False)
