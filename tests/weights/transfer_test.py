"""A transfer is whole, counted and streamed."""

import functools
import gc
import weakref

import keras
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
from tests.weights.transfer_case import Counted
from tests.weights.transfer_case import arrays
from tests.weights.transfer_case import averaged
from tests.weights.transfer_case import bits
from tests.weights.transfer_case import make
from tests.weights.transfer_case import randomize

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


# === Memory ===


def test_one_weight_after_the_other():
    target = make(*[8] * 81)
    read, living = [], []

    def read_one(shape):
        # Counted, not measured: threads of pytest allocate meanwhile.
        living.append(sum(array() is not None for array in read))
        array = np.ones(shape, "float32")
        read.append(weakref.ref(array))
        return array

    source = {
        name: LazyArray(
            tuple(v.shape), "float32", functools.partial(read_one, v.shape)
        )
        for name, v in named_weights(target).items()
    }
    transfer(source, target)
    assert len(read) == len(target.weights) == 160
    assert max(living) <= 2
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
