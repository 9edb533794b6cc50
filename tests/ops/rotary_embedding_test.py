import numpy as np
import pytest

from keras_moe.ops import rotary_embedding


def data(length=5, dim=6):
    return np.random.default_rng(0).normal(size=(2, length, dim))


def test_turns_complex_numbers():
    x, positions = data(), np.array([0, 1, 2, 7, 100])
    angles = positions[:, None] * 10000.0 ** (-np.arange(3) / 3)
    turned = (x[..., :3] + 1j * x[..., 3:]) * np.exp(1j * angles)
    expected = np.concatenate([turned.real, turned.imag], axis=-1)
    received = rotary_embedding(x.astype("float32"), positions)
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_products_depend_on_the_distance_alone():
    x, y = data(1).astype("float32"), data(1)[::-1].astype("float32")

    def product(first, second):
        turned = (
            np.asarray(rotary_embedding(each, np.array([position])))
            for each, position in ((x, first), (y, second))
        )
        return np.sum(np.prod(np.stack(list(turned)), axis=0), axis=-1)

    np.testing.assert_allclose(product(3, 8), product(40, 45), rtol=1e-4)
    assert not np.allclose(product(3, 8), product(3, 9), rtol=1e-2)


def test_keeps_the_dtype_and_refuses_odd_sizes():
    half = rotary_embedding(data().astype("float16"), np.arange(5))
    assert half.dtype == "float16"
    with pytest.raises(ValueError, match="even size"):
        rotary_embedding(data(dim=5), np.arange(5))
