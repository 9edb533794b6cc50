import keras
import pytest

from keras_moe.training._callback_list import callback_list


@pytest.fixture
def model():
    return keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])


@pytest.mark.parametrize("verbose", [0, 1, "auto"])
def test_history_and_progress_are_added(model, verbose):
    own = keras.callbacks.LambdaCallback()
    made = callback_list([own], model, verbose, epochs=3, steps=5)
    kinds = [type(each) for each in made.callbacks]
    assert made.callbacks[0] is own
    assert (keras.callbacks.ProgbarLogger in kinds) is (verbose != 0)
    assert keras.callbacks.History in kinds
    for each in made.callbacks:
        assert each.model is model
    assert made.callbacks[0].params["epochs"] == 3
    assert made.callbacks[0].params["steps"] == 5


def test_none_are_needed(model):
    made = callback_list(None, model, 0, epochs=1, steps=None)
    assert [type(each) for each in made.callbacks] == [keras.callbacks.History]


def test_a_list_of_keras_is_taken_as_it_is(model):
    made = keras.callbacks.CallbackList([], model=model)
    assert callback_list(made, model, 1, 1, 1) is made
    assert made.callbacks == []
