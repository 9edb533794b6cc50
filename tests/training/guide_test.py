"""The guide's code runs as it stands."""

import pathlib
import re

import keras
import numpy as np
import tensorflow as tf

import keras_moe

GUIDE = pathlib.Path(__file__).parents[2] / "docs/training.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def make_model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Embedding(8, 4), keras.layers.Dense(8)]
    return keras.Sequential([keras.Input([3], dtype="int32"), *layers])


def test_everything_in_its_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = np.random.default_rng(0).integers(1, 8, size=(16, 3))
    examples = tf.data.Dataset.from_tensor_slices((ids, ids))
    names = {
        "examples": examples,
        "held_out": examples.take(8),
        "keras_moe": keras_moe,
        "make_model": make_model,
        "model": make_model(),
    }
    trainer_block, *others = BLOCK.findall(GUIDE.read_text())
    exec(trainer_block, names)
    assert len(names["history"].history["val_loss"]) == 2
    trained, history = names["model"].get_weights(), names["history"]
    # The second time there is nothing left to train.
    names["model"] = make_model()
    exec(trainer_block, names)
    assert names["history"].history == history.history
    for mine, theirs in zip(names["model"].get_weights(), trained, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for block in others:
        exec(block, names)
    assert names["position"] == keras_moe.training.Position(batch=3, step=3)
    served = keras.saving.load_model("model.keras")
    for mine, theirs in zip(served.get_weights(), trained, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_answer_is_as_the_guide_shows_it():
    sentence = (
        "its inputs are finite, its outputs are not (12 of 4096 values: 12 NaN)"
    )
    assert sentence in " ".join(GUIDE.read_text().split())
    bad = keras.layers.Lambda(
        lambda x: keras.ops.where(x < 12, np.nan, x), name="bad"
    )
    model = keras.Sequential([keras.Input([4096]), bad], name="model")
    said = keras_moe.training.name_nonfinite(model, np.arange(4096.0)[None])
    assert said == f"layer 'model/bad' (Lambda): {sentence}."
