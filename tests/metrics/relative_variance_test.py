import warnings

import pytest
import tensorflow as tf

from keras_moe.metrics import RelativeVariance


def test_is_a_mean_and_warns_above_one():
    metric = RelativeVariance(name="layer/relative_variance")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.update_state(0.5)
        metric.update_state(1.0)
        assert float(metric.result()) == 0.75
    metric.update_state(4.5)
    with pytest.warns(UserWarning, match="layer/relative_variance is 2"):
        assert float(metric.result()) == 2.0


def test_is_silent_in_a_graph():
    metric = RelativeVariance()
    metric.update_state(3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(tf.function(lambda: metric.result())()) == 3.0
