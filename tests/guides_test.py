"""The code of guides runs as it stands, in its order."""

import pathlib
import re
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_moe

DOCS = pathlib.Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the blocks of a page that are not left out; returns their names."""
    monkeypatch.chdir(tmp_path)

    def run(page, names=None, without=()):
        names = {} if names is None else names
        blocks = BLOCK.findall((DOCS / page).read_text())
        assert blocks
        for block in blocks:
            if not any(word in block for word in without):
                exec(block, names)
        return names

    return run


@pytest.mark.filterwarnings("error:.*gets no mask")
def test_mixture_of_experts(run):
    names = run("moe.md")
    assert names["outputs"].shape == (2, 6, 16)
    ids = names["tokens"][:2]
    np.testing.assert_allclose(
        names["loaded"](ids), names["model"](ids), atol=1e-5
    )


def test_routers(run):
    names = run("routers.md")
    page = (DOCS / "routers.md").read_text()
    for name in names["history"].history:
        assert name == "loss" or f"`{name}`" in page
    assert names["loads"].names == ("moe",)


def test_upcycling(run):
    names = run("upcycle.md")
    assert names["difference"] < 1e-5
    kinds = [type(layer) for layer in names["sparse"].layers]
    assert keras_moe.layers.SparseMoE in kinds


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_lora_and_int8(run):
    names = run("lora_int8.md")
    assert names["unchanged"] < 1e-6
    assert 0 < names["error"] < 0.05
    np.testing.assert_allclose(
        names["loaded"](names["x"]), names["model"](names["x"]), atol=1e-5
    )


def test_troubleshooting(run, capsys):
    run("troubleshooting.md")
    assert "inputs" in capsys.readouterr().out


def classifier(features, classes, width=8):
    return keras.Sequential(
        [
            keras.Input((features,)),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )


def test_cascades(run):
    rng = np.random.default_rng(0)
    small, large = classifier(4, 3, 2), classifier(4, 3)
    x, x_held_out = rng.normal(size=(2, 400, 4)).astype("float32")
    labels, truth = (large.predict(each).argmax(1) for each in (x, x_held_out))
    names = run(
        "cascades.md",
        dict(
            small=small,
            large=large,
            x=x,
            labels=labels,
            x_held_out=x_held_out,
            small_errors=small.predict(x_held_out).argmax(1) != truth,
            large_errors=np.zeros(len(truth)),
            train_texts=["a"],
            fit_texts=["b"],
            texts=["c"],
        ),
    )
    assert set(np.asarray(names["answer"]["stage"])) == {0, 1}
    served = tf.saved_model.load("serving/topics/1")
    answer = served.signatures["serving_default"](features=x)
    np.testing.assert_array_equal(answer["stage"], names["answer"]["stage"])
