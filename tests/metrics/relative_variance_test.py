import warnings

import pytest
import tensorflow as tf

from keras_moe.metrics import RelativeVariance


def test_is_a_mean_and_warns_of_errors_above_a_third():
    metric = RelativeVariance(name="layer/relative_variance")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.update_state(0.05)
        metric.update_state(0.1)
        assert abs(float(metric.result()) - 0.075) < 1e-6
    metric.update_state(0.6)
    with pytest.warns(UserWarning, match="variance is 0.25.* 50% of their"):
        metric.result()
    metric.update_state(7.25)
    with pytest.warns(UserWarning, match="layer/relative.* is 2, .*mean"):
        metric.result()


def test_is_silent_in_a_graph():
    metric = RelativeVariance()
    metric.update_state(3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(tf.function(lambda: metric.result())()) == 3.0
