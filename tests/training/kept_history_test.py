import json

import keras
import numpy as np

from keras_moe.training._kept_history import KeptHistory


def test_values_and_epochs_go_on():
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    before, after = KeptHistory(), KeptHistory()
    for history in (before, after):
        history.set_model(model)
    before.on_train_begin()
    before.on_epoch_end(0, {"loss": 0.1, "load": np.array([1.0, 2.0])})
    after.set_state(json.loads(json.dumps(before.get_state())))
    after.on_train_begin()
    after.on_epoch_end(1, {"loss": 0.3, "load": np.array([3.0, 4.0])})
    assert after.epoch == [0, 1]
    assert after.history["loss"] == [0.1, 0.3]
    np.testing.assert_array_equal(after.history["load"], [[1, 2], [3, 4]])
    # What was restored is a copy.
    assert before.history["loss"] == [0.1]
