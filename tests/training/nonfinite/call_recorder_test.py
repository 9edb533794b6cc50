import keras
import numpy as np
import pytest

from keras_moe.training.nonfinite._call_recorder import CallRecorder


def make_model():
    inputs = keras.Input([2])
    x = keras.layers.Activation("exponential", name="exp")(inputs)
    x = keras.ops.log(x - x)
    return keras.Model(inputs, x, name="model")


def record(x):
    model, recorder = make_model(), CallRecorder()
    with recorder.watch(model):
        model(np.array([x], "float32"))
    return recorder.calls


def test_layers_and_operations_come_before_their_owner():
    paths = [call.path for call in record([1.0, 2.0])]
    assert len(paths) == 2
    assert paths[0].startswith("model/log")
    assert paths[1] == "model"


def test_a_layer_is_not_blamed_for_its_inputs():
    # exp gives infinity; log then gets NaN, and the model was given neither.
    calls = record([1.0, 1000.0])
    assert [call.path for call in calls] == ["model/exp", "model"]
    assert calls[0].outputs.positive == 1
    assert calls[0].layer.name == "exp"
    assert record([np.nan, 1.0]) == []


def test_layers_are_as_before():
    model = make_model()
    layer = model.layers[1]
    layer.call = call = layer.call  # an attribute of its own
    with pytest.raises(KeyError), CallRecorder().watch(model):
        assert vars(layer)["call"] is not call
        raise KeyError
    assert vars(layer)["call"] is call
    assert "call" not in vars(model.layers[0])
