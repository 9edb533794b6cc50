import keras
import pytest

from keras_moe.training._callback_list import callback_list
from keras_moe.training._kept_history import KeptHistory


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
    assert kinds.count(KeptHistory) == 1
    assert model.history is made.callbacks[1]
    for each in made.callbacks:
        assert each.model is model
    assert made.callbacks[0].params["epochs"] == 3
    assert made.callbacks[0].params["steps"] == 5


def test_a_history_of_the_caller_is_the_history(model):
    own = keras.callbacks.History()
    made = callback_list([own], model, 0, epochs=1, steps=None)
    assert made.callbacks == [own]
    assert model.history is own


def test_none_are_needed(model):
    made = callback_list(None, model, 0, epochs=1, steps=None)
    assert [type(each) for each in made.callbacks] == [KeptHistory]


def test_a_list_of_keras_is_taken_as_it_is(model):
    made = keras.callbacks.CallbackList([], model=model)
    assert callback_list(made, model, 1, 1, 1) is made
    assert made.callbacks == []
