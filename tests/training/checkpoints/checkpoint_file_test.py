import keras
import numpy as np
import pytest

from keras_moe.training import DamagedFileError
from keras_moe.training import Position
from keras_moe.training import build_state
from keras_moe.training import load_into
from keras_moe.training.checkpoints._array_file import write_arrays
from keras_moe.training.checkpoints._checkpoint_file import capture

X = np.ones((2, 3), "float32")


def make_model(compiled=True):
    layer = keras.layers.Dense(2, name="dense")
    model = keras.Sequential([keras.Input([3]), layer], name="model")
    if compiled:
        model.compile("adam", "mse", metrics=[keras.metrics.MeanSquaredError()])
        build_state(model, (X, X[:, :2]))
    return model


def test_the_header_says_where_the_training_stands():
    _, header = capture(make_model(), Position(1, 2, 3, ((0, 4),)), {"m": 1})
    assert header["position"] == {
        "epoch": 1,
        "batch": 2,
        "step": 3,
        "skipped": ((0, 4),),
    }
    assert header["metrics"] == {"m": 1.0}
    assert header["metrics_complete"]


@pytest.mark.parametrize("of_optimizer", [False, True])
def test_values_that_are_not_finite_are_refused(of_optimizer):
    model = make_model()
    variable = model.layers[0].bias
    if of_optimizer:
        variable = model.optimizer.variables[-1]
    variable.assign([0.0, -np.inf])
    with pytest.raises(ValueError, match="must be finite.*bias.* after step 3"):
        capture(model, Position(step=3))


def test_infinite_metrics_are_captured():
    model = make_model()
    model.metrics_variables[0].assign(np.inf)
    state, _ = capture(model, Position())
    assert np.inf in [np.max(value) for value in state.values()]


def test_values_are_copies():
    model = make_model()
    state, _ = capture(model, Position())
    before = {name: value.copy() for name, value in state.items()}
    model.fit(X, X[:, :2], verbose=0)
    for name, value in state.items():
        np.testing.assert_array_equal(value, before[name])


def test_weights_only_leave_the_optimizer_alone(tmp_path):
    trained = make_model()
    trained.fit(X, X[:, :2], verbose=0)
    write_arrays(tmp_path / "c.h5", *capture(trained, Position(step=1)))
    model = make_model()
    load_into(tmp_path / "c.h5", model, weights_only=True)
    assert int(np.asarray(model.optimizer.iterations)) == 0
    bare = make_model(compiled=False)
    load_into(tmp_path / "c.h5", bare)
    for restored in (model, bare):
        for mine, theirs in zip(restored.weights, trained.weights, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert load_into(tmp_path / "c.h5", model) == Position(step=1)
    assert int(np.asarray(model.optimizer.iterations)) == 1


def test_another_format_is_refused(tmp_path):
    model = make_model()
    state, header = capture(model, Position())
    before = [np.asarray(w) for w in model.weights]
    state = {name: value + 1 for name, value in state.items()}
    for version in (None, 0, 99, "1"):
        write_arrays(
            tmp_path / "c.h5", state, {**header, "format_version": version}
        )
        with pytest.raises(DamagedFileError, match=f"Received: {version!r}"):
            load_into(tmp_path / "c.h5", model)
    for mine, theirs in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("position", None),
        ("position", [1]),
        ("position", {"epoch": -1}),
        ("metrics_complete", None),
        ("metrics_complete", "no"),
        ("seeds", None),
        ("seeds", {"dense": "1"}),
        ("callbacks", [1]),
    ],
)
def test_a_header_that_lacks_something_is_refused(tmp_path, field, value):
    model = make_model(compiled=False)
    state, header = capture(make_model(), Position())
    header[field] = value
    if value is None:
        del header[field]
    write_arrays(
        tmp_path / "c.h5", {k: v + 1 for k, v in state.items()}, header
    )
    before = [np.asarray(w) for w in model.weights]
    with pytest.raises(DamagedFileError, match=field.rstrip("s")):
        load_into(tmp_path / "c.h5", model)
    for mine, theirs in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(mine, theirs)
