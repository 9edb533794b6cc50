"""A transfer with a mistake is refused before anything is assigned."""

import keras
import numpy as np
import pytest

from keras_moe.weights import LazyArray
from keras_moe.weights import Recipe
from keras_moe.weights import named_weights
from keras_moe.weights import transfer
from tests.weights.transfer_case import Counted
from tests.weights.transfer_case import arrays
from tests.weights.transfer_case import averaged
from tests.weights.transfer_case import averaged_of
from tests.weights.transfer_case import bits
from tests.weights.transfer_case import make
from tests.weights.transfer_case import randomize


def without_the_last(values):
    values.popitem()


def of_another_shape(values):
    name = list(values)[-1]
    values[name] = values[name][:-1]


def broadcastable(values):
    name = list(values)[-1]
    values[name] = values[name][:1]


def of_another_dtype(values):
    name = list(values)[-1]
    values[name] = values[name].astype("float64")


def with_another(values):
    values["more"] = np.zeros(3)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_the_last, "Missing: dense#2/bias; unexpected: none"),
        (of_another_shape, r"dense#2/bias \(2,\) float32 \(is \(1,\) float32"),
        (broadcastable, r"dense#2/bias \(2,\) float32 \(is \(1,\) float32"),
        (of_another_dtype, r"bias \(2,\) float32 \(is \(2,\) float64\).*`cast"),
        (with_another, "Missing: none; unexpected: more"),
    ],
)
def test_mistakes_are_found_before_anything_is_assigned(spoil, message, lazy):
    values = arrays(randomize(make()))
    spoil(values)
    target = randomize(make())
    before = bits(target)
    source = Counted(values) if lazy else values
    with pytest.raises(ValueError, match=message):
        transfer(source, target, use_all=True)
    assert bits(target) == before
    if lazy:
        assert source.reads == []


def test_all_mistakes_are_named():
    values = arrays(randomize(make()))
    without_the_last(values)
    of_another_shape(values)
    with_another(values)
    target = randomize(make())
    with pytest.raises(ValueError) as error:
        transfer(values, target, use_all=True)
    assert str(error.value) == (
        "The source must have what the target needs, and nothing was assigned. "
        "Missing: dense#2/bias; unexpected: more; of another shape or dtype: "
        "dense#2/kernel (4, 2) float32 (is (3, 2) float32); used more than "
        "once: none."
    )


def test_a_name_that_is_used_twice():
    source, target = randomize(make(3, 4, 4)), randomize(make(3, 4, 4, 4))
    before = bits(target)
    rule = {
        "dense/bias": "dense/bias",
        "dense#1/bias": "dense/bias",
        "dense#2/bias": "dense#1/bias",
    }.get
    message = "once: dense/bias .for dense/bias and dense#1/bias"
    with pytest.raises(ValueError, match=message):
        transfer(source, target, rule)
    assert bits(target) == before
    counted = Counted(arrays(source))
    report = transfer(counted, target, rule, reuse=True)
    assert report.copied == ("dense/bias", "dense#1/bias", "dense#2/bias")
    assert counted.reads == ["dense/bias", "dense#1/bias"]
    np.testing.assert_array_equal(target.layers[1].bias, target.layers[0].bias)


def test_names_for_which_there_is_another():
    target = randomize(make())
    before = bits(target)
    message = r"Missing: dense/kernel_ \(for dense/kernel\), "
    with pytest.raises(ValueError, match=message):
        transfer(make(), target, lambda name: f"{name}_")
    with pytest.raises(TypeError, match="a name, a `Recipe` or None.*: 3 for"):
        transfer(make(), target, lambda name: 3)
    assert bits(target) == before


@pytest.mark.parametrize("position", range(6))
def test_a_file_that_is_cut_off(position):
    values = arrays(randomize(make()))
    source = Counted(values, fails=[list(values)[position]])
    target = randomize(make())
    before = bits(target)
    with pytest.raises(OSError, match="cut off"):
        transfer(source, target)
    assert bits(target) == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"'dense#2/bias' must be \(2,\)"),
        (np.zeros(2), "as it says. Received: .* float64"),
    ],
)
def test_a_header_that_lies(dtype, array, message):
    values = arrays(randomize(make(dtype=dtype)))
    source = {n: LazyArray(v.shape, v.dtype, lambda v=v: v)
              for n, v in values.items()}  # fmt: skip
    source["dense#2/bias"] = LazyArray((2,), dtype, lambda: array)
    target = randomize(make(dtype=dtype))
    before = bits(target)
    with pytest.raises(ValueError, match=message):
        transfer(source, target)
    assert bits(target) == before


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda bias: bias[:1], r"'dense#2/bias' must make the shape \(2,\)"),
        (lambda bias: bias > 0, "'dense#2/bias' must be float32.*bool"),
        (lambda bias: 1 / 0, "division by zero"),
    ],
)
def test_a_recipe_that_makes_something_else(value, message):
    source, target = randomize(make()), randomize(make())
    before = bits(target)
    spoilt = Recipe(("dense#2/bias",), make=value, shape=lambda shape: shape)
    with pytest.raises((ValueError, ZeroDivisionError), match=message):
        transfer(
            source,
            target,
            lambda name: spoilt if name == "dense#2/bias" else name,
        )
    assert bits(target) == before


@pytest.mark.parametrize("sources", [(), "dense/kernel"])
def test_a_recipe_of_nothing(sources):
    with pytest.raises(ValueError, match="`sources` must be a tuple of names"):
        averaged_of(sources)


def test_shapes_of_recipes_are_checked_first():
    source = Counted(arrays(randomize(make())))
    target = randomize(make())
    before = bits(target)
    recipe = averaged("dense/kernel", "dense#1/kernel")
    with pytest.raises(ValueError, match=r"bias \(2,\) .*\(is \(3, 4\)"):
        transfer(source, target, lambda name: recipe, reuse=True)
    assert bits(target) == before and source.reads == []


def test_models_that_share_weights():
    shared = keras.layers.Dense(3)
    models = [
        randomize(
            keras.Sequential([keras.Input([3]), shared, keras.layers.Dense(3)])
        )
        for _ in range(2)
    ]
    transfer(*models)
    assert bits(models[0]) == bits(models[1])
    before = bits(models[1])
    swapped = {"dense/bias": "dense#1/bias", "dense#1/bias": "dense/bias"}
    with pytest.raises(ValueError, match="keep its value.*: dense/bias"):
        transfer(*models, swapped.get)
    with pytest.raises(ValueError, match="keep its value.*: dense/bias, dense"):
        transfer(models[1], models[1], swapped.get)
    assert bits(models[1]) == before
    # On another model it is a rule like any other.
    other = randomize(make(3, 3, 3))
    transfer(models[0], other, swapped.get)
    np.testing.assert_array_equal(other.layers[1].bias, shared.bias)


def test_the_backends_variables_are_shared_weights_too():
    model = randomize(make(3, 3, 3))
    values = {name: v.value for name, v in named_weights(model).items()}
    before = bits(model)
    swapped = {"dense/bias": "dense#1/bias", "dense#1/bias": "dense/bias"}
    # Read one after the other, the second would get what the first has now.
    with pytest.raises(ValueError, match="keep its value.*: dense/bias, dense"):
        transfer(values, model, swapped.get)
    assert bits(model) == before
    transfer(values, model)
    assert bits(model) == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("model.keras", make()), ValueError,
         "`source` must be a model, or a mapping .*Received: source of type s"),
        (([1.0], make()), ValueError, "`source` must be .*source of type list"),
        ((None, make()), ValueError, "`source` must be .*of type NoneType"),
        ((make(), make().weights), ValueError,
         "`target` must be a model, or a mapping of names to variables"),
        ((make(), arrays(make())), ValueError,
         "`target` must map names to variables. Received: ndarray for 'dense/"),
        ((make(), make(), {"dense/bias": "b"}), TypeError,
         "`rule` must be a function of a name.*'dense/bias': 'b'"),
    ],
)  # fmt: skip
def test_what_is_neither_a_model_nor_a_mapping(arguments, error, message):
    with pytest.raises(error, match=message):
        transfer(*arguments)


def test_a_variable_has_one_name_in_a_target():
    variable = keras.Variable([1.0, 2.0])
    values = {"a": np.zeros(2, "float32"), "b": np.ones(2, "float32")}
    with pytest.raises(ValueError, match="once. Received: 'a' and 'b' for one"):
        transfer(values, {"a": variable, "b": variable})
    np.testing.assert_array_equal(variable, [1.0, 2.0])
