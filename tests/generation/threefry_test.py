import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_moe.generation._threefry import row_uniforms
from keras_moe.generation._threefry import threefry


@pytest.mark.parametrize(
    "key, counter, expected",
    [
        # The published answers of the authors' Random123, `kat_vectors`.
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
        (
            (0x13198A2E, 0x03707344),
            (0x243F6A88, 0x85A308D3),
            (0xC4923A9C, 0x483DF7A0),
        ),
    ],
)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_known_answers(key, counter, expected, jit_compile):
    bits = tf.function(threefry, jit_compile=jit_compile, autograph=False)(
        key, counter
    )
    assert tuple(int(word) for word in bits) == expected
    assert all(word.dtype == tf.uint32 for word in bits)


def test_keys_and_counters_are_broadcast():
    column = tf.constant([[3], [2**31 + 5]], tf.uint32)
    row = tf.constant([0, 1, 2**32 - 1], tf.uint32)
    together, _ = threefry((7, column), (row, 0))
    for i in range(2):
        for j in range(3):
            alone, _ = threefry((7, column[i, 0]), (row[j], 0))
            assert together[i, j] == alone


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_uniforms_are_uniform(seed):
    drawn = np.asarray(row_uniforms(seed, 3, 20_000))
    assert drawn.dtype == "float32"
    assert np.all((drawn >= 0.0) & (drawn < 1.0))
    assert scipy.stats.kstest(drawn, "uniform").pvalue > 0.01


def test_uniforms_of_positions_seeds_and_rows_are_strangers():
    series = [
        row_uniforms(0, 0, 20_001)[:-1],
        row_uniforms(0, 0, 20_001)[1:],
        row_uniforms(0, 1, 20_000),
        row_uniforms(1, 0, 20_000),
    ]
    correlation = np.corrcoef(np.stack(series))
    # Four standard deviations of independent series.
    assert np.all(np.abs(correlation - np.eye(4)) < 4 / np.sqrt(20_000))


def test_a_row_does_not_know_how_many_there_are():
    many = row_uniforms(5, 9, 100)
    for count in (0, 1, 2, 3, 17, 64):
        np.testing.assert_array_equal(row_uniforms(5, 9, count), many[:count])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_uniforms_are_the_same_in_a_graph(jit_compile):
    @tf.function(jit_compile=jit_compile, autograph=False)
    def draw(rows, position):
        return row_uniforms(2**31 + 3, position, tf.shape(rows)[0])

    for position in (0, 4, 2**31 - 1):
        np.testing.assert_array_equal(
            draw(tf.zeros(6), tf.constant(position)),
            row_uniforms(2**31 + 3, position, 6),
        )
