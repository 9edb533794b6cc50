import decimal

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.ops import expert_capacity

MODES = {
    "truncate": decimal.ROUND_FLOOR,
    "nearest": decimal.ROUND_HALF_EVEN,
    "ceil": decimal.ROUND_CEILING,
}
ARGUMENTS = {
    "tokens": st.integers(0, 5000),
    "experts": st.integers(1, 256),
    # What people write: decimals, not arbitrary binary fractions.
    "hundredths": st.integers(1, 400),
    "k": st.integers(1, 4),
    "least": st.integers(1, 8),
    "rounding": st.sampled_from(sorted(MODES)),
}


def exact(tokens, experts, hundredths, k, least, rounding):
    with decimal.localcontext(prec=60):
        share = decimal.Decimal(hundredths) * k * tokens / (100 * experts)
        slots = int(share.to_integral_value(MODES[rounding]))
    return min(max(slots, least), max(tokens, 1))


@given(**ARGUMENTS)
def test_equals_decimal_arithmetic(**case):
    received = expert_capacity(
        case["tokens"],
        case["experts"],
        case["hundredths"] / 100,
        case["k"],
        case["least"],
        case["rounding"],
    )
    assert isinstance(received, int)
    assert received == exact(**case)


@given(**ARGUMENTS)
def test_dynamic_equals_static(tokens, experts, hundredths, k, least, rounding):
    rest = (experts, hundredths / 100, k, least, rounding)
    static = expert_capacity(tokens, *rest)
    dynamic = expert_capacity(tf.constant(tokens), *rest)
    assert keras.backend.standardize_dtype(dynamic.dtype) == "int32"
    assert int(dynamic) == static


@given(
    tokens=st.integers(0, 2**24),
    factor=st.one_of(st.floats(1e-6, 1e300), st.just(np.inf)),
    experts=st.integers(1, 256),
    rounding=st.sampled_from(sorted(MODES)),
)
def test_no_size_and_no_factor_leave_the_range(
    tokens, factor, experts, rounding
):
    rest = (experts, factor, 2, 4, rounding)
    static = expert_capacity(tokens, *rest)
    assert int(expert_capacity(tf.constant(tokens), *rest)) == static
    assert 1 <= static <= max(tokens, 1)
    if factor >= experts:
        assert static == max(tokens, 1)


@pytest.mark.parametrize("rounding", MODES)
@pytest.mark.parametrize("jit", [False, True])
def test_dynamic_in_a_graph(rounding, jit):
    @tf.function(
        input_signature=[tf.TensorSpec([None, 2])],
        jit_compile=jit,
        autograph=False,
    )
    def capacity(x):
        return expert_capacity(
            tf.shape(x)[0], 8, 1.1, capacity_rounding=rounding
        )

    for tokens in (1, 10, 80, 81, 84):
        assert int(capacity(tf.zeros((tokens, 2)))) == expert_capacity(
            tokens, 8, 1.1, capacity_rounding=rounding
        )


def test_anchors_disagree_as_documented():
    # 10 tokens, 4 experts: 2.5 slots each.
    for rounding, slots in (("truncate", 2), ("nearest", 2), ("ceil", 3)):
        assert expert_capacity(10, 4, 1.0, 1, 1, rounding) == slots
    assert expert_capacity(14, 4, 1.0, 1, 1, "nearest") == 4  # 3.5, to even


@pytest.mark.parametrize("tokens", [3, tf.constant(3)])
def test_bounds(tokens):
    assert int(expert_capacity(tokens, 64, 1.0, 1, 1, "truncate")) == 1
    assert int(expert_capacity(tokens, 64, 1.0, 1, 2, "truncate")) == 2
    assert int(expert_capacity(tokens, 64, 1.0, 1, 4, "truncate")) == 3
    assert int(expert_capacity(tokens, 1, 100.0)) == 3


def test_an_integer_of_numpy_is_an_integer():
    slots = expert_capacity(np.int64(100), 8, 1.25)
    assert type(slots) is int and slots == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"capacity_rounding": "down"}, "capacity_rounding.*'down'"),
        ({"capacity_factor": -1.0}, "capacity_factor=-1"),
        ({"num_experts": 0}, "num_experts=0"),
        ({"num_selected_experts": 0}, "num_selected_experts=0"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    sizes = {"num_experts": 4, "capacity_factor": 1.0}
    with pytest.raises(ValueError, match=message):
        expert_capacity(10, **{**sizes, **arguments})
