"""A cascade refuses stages that do not go together, deferred rows or none."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.calibration import DeferralRule
from keras_moe.models import Cascade
from keras_moe.weights import fingerprint

_NEVER = DeferralRule(threshold=1.0)


def _classifier(size=4, classes=3, dtype="float32", sequential=False):
    inputs = keras.Input([size])
    dense = keras.layers.Dense(classes, activation="softmax", dtype=dtype)
    if sequential:
        return keras.Sequential([inputs, dense])
    return keras.Model(inputs, dense(inputs))


@keras.saving.register_keras_serializable("refusals_test")
class _Subclassed(keras.Model):
    """Tells nothing of its outputs before it is called."""

    def __init__(self, dtype="float32", classes=3, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(
            classes, activation="softmax", dtype=dtype
        )
        self.calls = 0

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        self.calls += 1
        return self.dense(x)


_X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"classes": 4}, "outputs of one shape and dtype.*3.*4"),
        ({"dtype": "float16"}, "outputs of one shape and dtype.*float16"),
        ({"size": 5}, "inputs of one shape. .*4.*5"),
    ],
)
def test_stages_that_tell_are_compared_where_they_are_put_together(
    other, message, sequential
):
    other = {**other, "sequential": sequential}
    with pytest.raises(ValueError, match=message):
        Cascade([_classifier(), _classifier(**other)], _NEVER)
    # Whichever stage does not tell, the others are compared.
    with pytest.raises(ValueError, match=message):
        Cascade(
            [_classifier(), _Subclassed(), _classifier(**other)],
            [_NEVER, _NEVER],
        )


def test_inputs_of_another_name_are_refused():
    inputs = {"x": keras.Input([4], name="x")}
    dense = keras.layers.Dense(3, activation="softmax")
    named = keras.Model(inputs, dense(inputs["x"]))
    with pytest.raises(ValueError, match="inputs of one shape"):
        Cascade([_classifier(), named], _NEVER)


@pytest.mark.parametrize("other", [{"dtype": "float16"}, {"classes": 4}])
@pytest.mark.parametrize("wrapped", [False, True])
def test_stages_that_do_not_tell_are_compared_at_the_first_call(other, wrapped):
    cascade = Cascade([_classifier(), _Subclassed(**other)], _NEVER)
    call = tf.function(cascade) if wrapped else cascade
    with pytest.raises((ValueError, TypeError), match="one shape and dtype"):
        call(tf.constant(_X))


def test_stages_are_compared_once():
    large = _Subclassed()
    cascade = Cascade([_classifier(), large], _NEVER)
    cascade(_X[:0])  # no row to ask about
    assert large.calls == 0
    for _ in range(3):
        assert not cascade(_X)["stage"].numpy().any()
    assert large.calls == 1


def test_a_rule_without_a_threshold_is_told_where_to_get_one():
    with pytest.raises(ValueError, match="threshold=None.*with_threshold"):
        Cascade([_classifier(), _classifier()], DeferralRule())


def _edited(path, target, change_weights, change_config):
    """Writes a file of Keras anew, with weights or configuration changed."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as out:
        for name in source.namelist():
            data = source.read(name)
            if name == "config.json" and change_config:
                config = json.loads(data)
                rule = config["config"]["rules"][0]
                rule["stages"] = rule["stages"][::-1]
                data = json.dumps(config).encode()
            if name.endswith(".h5") and change_weights:
                buffer = io.BytesIO(data)
                with h5py.File(buffer, "r+") as file:
                    file.visititems(_add_one)
                data = buffer.getvalue()
            out.writestr(name, data)


def _add_one(name, item):
    if isinstance(item, h5py.Dataset) and item.dtype == np.float32:
        item[...] = item[...] + 1.0


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    stages = [_classifier(), _classifier()]
    rule = DeferralRule(
        threshold=0.4, stages=tuple(fingerprint(stage) for stage in stages)
    )
    cascade = Cascade(stages, rule)
    path = tmp_path_factory.mktemp("saved") / "cascade.keras"
    expected = cascade(_X)
    cascade.save(path)
    return path, expected


def test_a_file_that_nobody_touched_is_loaded(saved, tmp_path):
    path, expected = saved
    _edited(path, tmp_path / "same.keras", False, False)
    loaded = keras.saving.load_model(tmp_path / "same.keras")
    np.testing.assert_array_equal(loaded(_X)["stage"], expected["stage"])
    # And once more: what compares them has no weights to be saved.
    loaded.save(tmp_path / "again.keras")
    keras.saving.load_model(tmp_path / "again.keras")


@pytest.mark.parametrize("changed", ["weights", "config"])
def test_a_file_whose_stages_were_edited_is_refused(saved, tmp_path, changed):
    path, _ = saved
    target = tmp_path / "edited.keras"
    _edited(path, target, changed == "weights", changed == "config")
    with pytest.raises(ValueError, match="fitted on another first stage"):
        keras.saving.load_model(target)


def test_weights_of_other_stages_are_refused(saved, tmp_path):
    path, _ = saved
    other = Cascade([_classifier(), _classifier()], _NEVER)
    other.build((None, 4))
    other.save_weights(tmp_path / "other.weights.h5")
    loaded = keras.saving.load_model(path)
    with pytest.raises(ValueError, match="fitted on another"):
        loaded.load_weights(tmp_path / "other.weights.h5")


@pytest.mark.parametrize("jit_compile", [False, True])
def test_an_empty_batch_is_answered(jit_compile):
    cascade = Cascade([_classifier(), _classifier()], _NEVER)
    run = tf.function(cascade, jit_compile=jit_compile)
    answer = run(tf.constant(_X[:0]))
    assert answer["outputs"].shape == (0, 3)
    assert answer["stage"].shape == (0,)
