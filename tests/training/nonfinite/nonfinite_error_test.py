import keras
import numpy as np
import pytest

from keras_moe.training.nonfinite._nonfinite_error import NonfiniteError
from keras_moe.training.nonfinite._nonfinite_error import check_losses
from keras_moe.training.nonfinite._nonfinite_error import check_variables


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_bad_loss_is_found(bad):
    logs = [{"loss": value, "mae": bad} for value in (1.0, 2.0, bad, bad)]
    check_losses(logs[:2], 3, 10)
    with pytest.raises(NonfiniteError) as error:
        check_losses(logs, 3, 10)
    assert error.value.where == (3, 12)
    assert str(error.value) == "The loss is not finite at epoch 3, batch 12"
    assert not error.value.in_update


def test_logs_without_a_loss_are_finite():
    check_losses([{}, {"mae": np.nan}], 0, 0)
    check_losses([], 0, 0)


def test_variables_that_an_update_spoilt():
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    check_variables(model, 0, 4)
    model.layers[0].bias.assign([np.nan])
    with pytest.raises(
        NonfiniteError,
        match="The update of the variables is not finite at epoch 0, batch 4",
    ) as error:
        check_variables(model, 0, 4)
    assert error.value.in_update
