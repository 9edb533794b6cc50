import keras

from keras_moe.weights._own_metrics import own_metrics


def test_they_are_without_those_of_sublayers():
    inner, outer = keras.layers.Dense(1), keras.layers.Dense(1)
    inner.mean, outer.mean = keras.metrics.Mean(), keras.metrics.Mean()
    outer.inner = inner
    assert own_metrics(outer) == [outer.mean]
    assert outer.metrics == [outer.mean, inner.mean]
