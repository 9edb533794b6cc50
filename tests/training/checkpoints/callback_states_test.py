import keras
import pytest

from keras_moe.training import Checkpoints
from keras_moe.training import Position
from keras_moe.training.checkpoints._callback_states import get_callback_states
from keras_moe.training.checkpoints._callback_states import set_callback_states


class Holder(keras.callbacks.Callback):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def get_state(self):
        return {"value": self.value}

    def set_state(self, state):
        self.value = state["value"]


def test_each_gets_its_own_state_back():
    plain = keras.callbacks.LambdaCallback()
    states = get_callback_states([Holder(1), plain, Holder([2.5])])
    assert states == {"Holder": {"value": 1}, "Holder_2": {"value": [2.5]}}
    first, second, third = (Holder(0) for _ in range(3))
    set_callback_states([first, second, plain, third], states)
    assert [first.value, second.value, third.value] == [1, [2.5], 0]


def test_a_state_is_a_copy():
    holder = Holder([1])
    states = get_callback_states([holder])
    holder.value.append(2)
    assert states["Holder"]["value"] == [1]


def test_what_json_has_not_is_refused_by_name():
    with pytest.raises(ValueError, match="`get_state` of a callback.*Holder"):
        get_callback_states([Holder({1, 2})])


def test_they_are_in_the_checkpoint(tmp_path):
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, Position(step=1), callbacks=[Holder(7)])
    holder = Holder(0)
    assert checkpoints.restore(model, callbacks=[holder]) == Position(step=1)
    assert holder.value == 7
    # A checkpoint without callbacks leaves them as they are.
    checkpoints.save(model, Position(step=2))
    assert checkpoints.restore(model, callbacks=[holder]) == Position(step=2)
    assert holder.value == 7
