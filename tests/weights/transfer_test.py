"""A transfer is whole, counted and streamed, or it is refused."""

import collections
import gc
import tracemalloc

import keras
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe.weights import LazyArray
from keras_moe.weights import Recipe
from keras_moe.weights import TransferReport
from keras_moe.weights import named_weights
from keras_moe.weights import transfer

SIZES = (3, 4, 4, 2)


def make(*sizes, dtype="float32", name=None):
    sizes = sizes or SIZES
    layers = [keras.layers.Dense(size, dtype=dtype) for size in sizes[1:]]
    return keras.Sequential([keras.Input([sizes[0]]), *layers], name=name)


def randomize(model):
    for weight in model.weights:
        weight.assign(np.random.normal(size=weight.shape))
    return model


def bits(model):
    return {
        name: (str(v.dtype), np.asarray(v).tobytes())
        for name, v in named_weights(model).items()
    }


def arrays(model):
    return {n: np.array(np.asarray(v)) for n, v in named_weights(model).items()}


class Counted(collections.abc.Mapping):
    """A file of weights that counts what is read, and keeps nothing."""

    def __init__(self, values, fails=()):
        self.values_ = values
        self.fails = fails
        self.reads = []

    def __getitem__(self, name):
        value = self.values_[name]

        def read():
            self.reads.append(name)
            if name in self.fails:
                raise OSError("the file is cut off")
            return value.copy()

        return LazyArray(value.shape, value.dtype, read)

    def __iter__(self):
        return iter(self.values_)

    def __len__(self):
        return len(self.values_)


def averaged(*sources):
    return averaged_of(sources)


def averaged_of(sources):
    return Recipe(
        sources,
        make=lambda *values: np.mean(values, axis=0),
        shape=lambda *shapes: shapes[0],
    )


# === What is taken over ===


def test_everything_by_name():
    source, target = randomize(make(name="a")), randomize(make(name="b"))
    target.layers[1].trainable = False
    report = transfer(source, target)
    assert bits(target) == bits(source)
    assert report == TransferReport(copied=tuple(named_weights(target)))
    assert not target.layers[1].trainable


@pytest.mark.parametrize("kind", ["arrays", "lists", "lazy", "variables"])
def test_mappings(kind):
    source, target = randomize(make()), randomize(make())
    given = {
        "arrays": arrays,
        "variables": named_weights,
        "lazy": lambda model: Counted(arrays(model)),
        # Lists have a dtype of their own.
        "lists": lambda model: {
            n: np.asarray(v).astype("float64").tolist()
            for n, v in arrays(model).items()
        },
    }[kind](source)
    report = transfer(given, target, cast=kind == "lists")
    assert bits(target) == bits(source)
    assert report.unused == ()
    if kind == "lazy":
        assert sorted(given.reads) == sorted(given)


def test_states_are_no_weights():
    def model():
        return keras.Sequential(
            [
                keras.Input([3]),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5),
            ]
        )

    source, target = randomize(model()), model()
    source.compile("adam", "mse")
    source.layers[-1].seed_generator.state.assign([5, 6])
    seeds = np.array(target.layers[-1].seed_generator.state)
    report = transfer(source, target)
    assert len(report.copied) == 4  # moving averages among them
    assert report.unused == ()
    for old, new in zip(source.weights, target.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(target.layers[-1].seed_generator.state, seeds)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_quantised_weights():
    source, target = randomize(make()), randomize(make())
    gc.freeze()
    source.quantize("int8")
    before = bits(target)
    message = r"dense/kernel \(3, 4\) float32 \(is \(3, 4\) int8\)"
    for cast in (False, True):
        with pytest.raises(ValueError, match=message) as error:
            transfer(source, target, cast=cast)
        assert "cast=True" not in str(error.value)
    assert bits(target) == before
    target.quantize("int8")
    report = transfer(source, target)
    assert "dense#2/kernel_scale" in report.copied
    assert bits(target) == bits(source)
    # From floats, the scale would be missing.
    with pytest.raises(ValueError, match="Missing: dense/kernel_scale"):
        transfer(make(), target)


def test_low_rank_weights():
    source, target = randomize(make()), randomize(make())
    for model in (source, target):
        model.layers[0].enable_lora(2)
    randomize(source)
    assert "dense/lora_kernel_b" in transfer(source, target).copied
    assert bits(target) == bits(source)
    with pytest.raises(ValueError, match="Missing: dense/lora_kernel_a"):
        transfer(make(), target)


def test_recipes_and_rules():
    source = {
        "torch.weight": np.random.normal(size=(4, 3)).astype("float32"),
        "a": np.float32(np.arange(4)),
        "b": np.float32(np.arange(4)[::-1]),
        "left": np.zeros(2),
    }
    rules = {
        "dense/kernel": Recipe(
            ("torch.weight",),
            make=np.transpose,
            shape=lambda shape: shape[::-1],
            rearranges=True,
        ),
        "dense/bias": averaged("a", "b"),
    }
    target = make(3, 4)
    report = transfer(source, target, rules.get)
    np.testing.assert_array_equal(
        target.layers[0].kernel, source["torch.weight"].T
    )
    np.testing.assert_array_equal(target.layers[0].bias, np.full(4, 1.5))
    assert report == TransferReport(
        ("dense/kernel",), ("dense/bias",), (), ("left",)
    )
    before = bits(target)
    report = transfer(source, target, lambda name: None)
    assert report == TransferReport((), (), tuple(before), tuple(source))
    assert bits(target) == before


def test_empty_models_and_sources():
    empty = keras.Sequential(
        [keras.Input([3]), keras.layers.Activation("relu")]
    )
    assert transfer({}, empty) == TransferReport()
    assert transfer(make(3, 4), empty).unused == ("dense/kernel", "dense/bias")
    with pytest.raises(ValueError, match="Missing: dense/kernel, dense/bias"):
        transfer({}, make(3, 4))
    with pytest.raises(ValueError, match="`model` must be built"):
        transfer({}, keras.Sequential([keras.layers.Dense(2)]))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_weight_and_every_name_is_counted_once(data):
    target = {
        str(i): keras.Variable(np.full(2, -1.0, "float32"), name=f"v{i}")
        for i in range(data.draw(st.integers(0, 6)))
    }
    source = {
        str(i): np.full(2, i, "float32")
        for i in range(data.draw(st.integers(1, 6)))
    }
    names = st.sampled_from(sorted(source))
    origins = {
        name: data.draw(
            st.none()
            | names
            | st.lists(names, min_size=1, max_size=3).map(
                lambda some: averaged(*some)
            )
        )
        for name in target
    }
    counted = Counted(source)
    report = transfer(counted, target, origins.get, reuse=True)
    used = set()
    for name, variable in target.items():
        origin = origins[name]
        parts = () if origin is None else getattr(origin, "sources", (origin,))
        used.update(parts)
        expected = np.mean([int(part) for part in parts]) if parts else -1.0
        np.testing.assert_allclose(variable, np.full(2, expected), rtol=1e-6)
        kinds = [k for k in ("copied", "merged", "fresh")
                 if name in getattr(report, k)]  # fmt: skip
        kind = "fresh" if origin is None else (
            "copied" if isinstance(origin, str) else "merged"
        )  # fmt: skip
        assert kinds == [kind]
    assert set(report.unused) == set(source) - used
    assert sorted(counted.reads) == sorted(used)


# === Dtypes ===


def test_floats_are_rounded_when_asked():
    source, target = randomize(make()), make(dtype="bfloat16")
    before = bits(target)
    with pytest.raises(ValueError, match="bfloat16 .*float32.*`cast=True`"):
        transfer(source, target)
    assert bits(target) == before
    transfer(source, target, cast=True)
    for old, new in zip(source.weights, target.weights, strict=True):
        assert new.dtype == "bfloat16"
        np.testing.assert_array_equal(
            np.asarray(new), np.asarray(old).astype(ml_dtypes.bfloat16)
        )
    # Back, without a loss.
    wide = make()
    transfer(target, wide, cast=True)
    assert bits(target) == bits_as(wide, ml_dtypes.bfloat16)


def bits_as(model, dtype):
    return {
        name: (np.dtype(dtype).name, value.astype(dtype).tobytes())
        for name, value in arrays(model).items()
    }


def test_no_number_becomes_infinite():
    source, target = randomize(make()), randomize(make(dtype="float16"))
    source.layers[-1].bias.assign([1.0, 1e5])
    before = bits(target)
    with pytest.raises(ValueError, match="dense#2/bias.*float16.*100000.0"):
        transfer(source, target, cast=True)
    assert bits(target) == before
    source.layers[-1].bias.assign([1.0, np.inf])  # as it was
    transfer(source, target, cast=True)
    assert np.isinf(target.layers[-1].bias[1])


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [
        (np.int64([3, -4]), "int32", True),
        (np.int32([3, 4]), "uint32", True),
        (np.int32([3, -4]), "uint32", False),
        (np.int64([3, 2**40]), "int32", False),
        (np.int8([3, 4]), "float32", False),
        (np.float32([3, 4]), "int32", False),
        (np.bool_([True, False]), "int32", False),
        (np.bool_([True, False]), "bool", True),
        (np.array(["a", "b"]), "float32", False),
        (np.complex64([3, 4]), "float32", False),
    ],
)
@pytest.mark.parametrize("cast", [False, True])
def test_other_numbers_must_be_the_same(given, wanted, fits, cast):
    start = np.zeros(2, wanted)
    target = {"a": keras.Variable(start, dtype=wanted, trainable=False)}
    if fits:
        transfer({"a": given}, target, cast=cast)
        assert np.asarray(target["a"]).tolist() == given.tolist()
    else:
        with pytest.raises(
            ValueError, match=r"a \(2,\) \w+ \(is \(2,\) <?\w+\)"
        ):
            transfer({"a": given}, target, cast=cast)
        np.testing.assert_array_equal(target["a"], start)


# === Mistakes ===


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


# === Memory ===


def test_one_weight_after_the_other():
    sizes = [250] * 21
    target = make(*sizes)
    size = 4 * 250 * 250

    def read():
        return np.ones([250, 250], "float32")

    source = {
        name: LazyArray(
            tuple(v.shape),
            "float32",
            read if len(v.shape) == 2 else lambda: np.ones([250], "float32"),
        )
        for name, v in named_weights(target).items()
    }
    tracemalloc.start()
    try:
        transfer(source, target)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * size < 20 * size / 4
    for weight in target.weights:
        assert np.all(np.asarray(weight) == 1)


# === The report ===


def test_a_report_can_be_read():
    names = tuple(f"block_{i}/kernel" for i in range(10))
    text = str(TransferReport(names, ("a", "b"), (), names))
    shown = ", ".join(names[:8])
    assert text == (
        "copied: 10 weights\n"
        "merged: 2: a, b\n"
        "fresh: none\n"
        f"unused: 10: {shown} and 2 more"
    )
    assert str(TransferReport(("a",))).startswith("copied: 1 weight\n")
