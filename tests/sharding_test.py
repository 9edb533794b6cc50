import threading

import pytest
import tensorflow as tf

from keras_moe import sharding


class Engine:
    axis_sizes = {"batch": 1}


def test_the_engine_is_there_while_its_scope_is_entered():
    assert not sharding.is_sharded()
    outer, inner = Engine(), Engine()
    with sharding.sharded_by(outer):
        with sharding.sharded_by(inner):
            assert sharding.active_sharding() is inner
        assert sharding.active_sharding() is outer
        with sharding.sharded_by(None):
            assert not sharding.is_sharded()
    assert sharding.active_sharding() is None


def test_a_scope_that_fails_is_left():
    with pytest.raises(KeyError), sharding.sharded_by(Engine()):
        raise KeyError
    assert not sharding.is_sharded()


@pytest.mark.parametrize("compiled", [False, True])
def test_replicas_see_the_engine_though_they_are_threads(compiled):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    engine, seen = Engine(), []

    def replica():
        seen.append((threading.get_ident(), sharding.active_sharding()))

    def step():
        strategy.run(replica)

    with sharding.sharded_by(engine):
        (tf.function(step) if compiled else step)()
    ((thread, active),) = seen
    # If replicas no longer had threads, a `ContextVar` would do.
    assert thread != threading.get_ident()
    assert active is engine
