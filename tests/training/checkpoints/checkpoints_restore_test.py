"""What a checkpoint gives back, and to which models."""

import keras
import numpy as np
import pytest

from keras_moe.training.checkpoints._array_file import read_arrays
from keras_moe.training.checkpoints._array_file import write_arrays
from keras_moe.training.checkpoints._checkpoint_file import load_into
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._position import Position
from keras_moe.weights._named_state import named_state
from tests.training.checkpoints.checkpoints_case import tiny
from tests.training.checkpoints.checkpoints_case import train_model
from tests.training.example_model import X
from tests.training.example_model import Y
from tests.training.example_model import assert_equal
from tests.training.example_model import make_built_model
from tests.training.example_model import make_model
from tests.training.example_model import values_of


@pytest.fixture(scope="module")
def trained():
    return train_model()


def test_restores_all_and_training_goes_on_as_before(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    position = Position(1, 2, 3, ((0, 1),))
    checkpoints.save(trained, position)
    saved = values_of(trained)
    # Of another seed, and made after others.
    keras.utils.set_random_seed(99)
    make_model()
    model = make_built_model(run_eagerly=True)
    checkpoints.wait()
    assert checkpoints.restore(model) == position
    assert_equal(values_of(model), saved)
    continued = [model.train_on_batch(X, Y) for _ in range(2)]
    assert checkpoints.restore(trained) == position
    assert [trained.train_on_batch(X, Y) for _ in range(2)] == continued


def test_what_training_does_after_save_does_not_enter(tmp_path, trained):
    saved = values_of(trained)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(trained, Position())
    trained.train_on_batch(X, Y)
    checkpoints.wait()
    assert_equal(read_arrays(checkpoints.latest)[0], saved)
    checkpoints.restore(trained)


def test_weights_for_serving(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path / "new", asynchronous=False)
    checkpoints.save(trained, Position(step=3))
    served = make_model(compiled=False)
    assert checkpoints.restore(served).step == 3
    served.save(tmp_path / "served.keras")
    loaded = keras.saving.load_model(tmp_path / "served.keras")
    expected = trained(X, training=False)
    assert np.array_equal(served(X, training=False), expected)
    assert np.array_equal(loaded(X, training=False), expected)
    # A compiled one's optimizer stays.
    other = make_built_model()
    before = values_of(other)
    load_into(checkpoints.latest, other, weights_only=True)
    for name, value in values_of(other).items():
        source = trained if name.startswith("model/") else None
        expected = values_of(source)[name] if source else before[name]
        assert np.array_equal(value, expected), name


def test_metrics_that_are_not_made_yet(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    checkpoints.save(trained, Position(step=3))
    fresh = make_model()
    before = values_of(fresh)
    with pytest.raises(ValueError, match="`build_state` makes them"):
        checkpoints.restore(fresh)
    after = values_of(fresh)
    assert_equal({name: after[name] for name in before}, before)
    # The other way round: what did not exist yet is as it begins.
    checkpoints.save(fresh, Position())
    model = make_model(run_eagerly=True)
    model.train_on_batch(X, Y)
    assert checkpoints.restore(model) == Position()
    named = named_state(model)
    assert np.asarray(named["metrics/compile_metrics/mae/count"]) == 0
    assert np.asarray(named["metrics/loss/count"]) == 0


def test_another_model_is_refused_whole(tmp_path):
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    checkpoints.save(tiny(), Position())
    for other, rule in [
        (tiny("else"), "Missing: model/else/kernel.*unexpected: model/layer"),
        (tiny(width=4), r"kernel \(4, 2\) float32 \(is \(3, 2\) float32\)"),
        (tiny(dtype="float64"), r"bias \(2,\) float64 \(is \(2,\) float32\)"),
    ]:
        before = values_of(other)
        with pytest.raises(ValueError, match=rule):
            checkpoints.restore(other)
        assert_equal({k: values_of(other)[k] for k in before}, before)
    sgd = tiny()
    sgd.compile("sgd", "mse")
    with pytest.raises(ValueError, match="unexpected: optimizer/model/layer"):
        checkpoints.restore(sgd)


@pytest.mark.parametrize("naming", [None, 1, 3, "2"])
def test_another_naming_of_weights_is_refused_by_name(tmp_path, naming):
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    model = tiny()
    for step in range(2):
        checkpoints.save(model, Position(step=step))
    path = checkpoints.latest
    arrays, header = read_arrays(path)
    assert header.pop("naming") == 2
    if naming is not None:
        header["naming"] = naming
    write_arrays(path, arrays, header)
    model.layers[0].bias.assign([1.0, 2.0])
    before = values_of(model)
    with pytest.raises(ValueError, match=f"{path.name} was written with an"):
        # The one before it is no substitute: this one is not damaged.
        checkpoints.restore(model)
    with pytest.raises(ValueError, match=r"another naming.*version .*uses 2\)"):
        load_into(path, model, weights_only=True)
    assert_equal(values_of(model), before)
