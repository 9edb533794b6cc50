import numpy as np
import tensorflow as tf

from keras_moe.training._replica_batches import distribute_batches
from keras_moe.training._replica_batches import gather_batch

STRATEGY = tf.distribute.get_strategy()
POLICIES = tf.data.experimental.AutoShardPolicy


def test_every_worker_takes_its_share_of_each_batch():
    data = distribute_batches(tf.data.Dataset.range(4).batch(2), STRATEGY)
    policy = data.options().experimental_distribute.auto_shard_policy
    assert policy == POLICIES.DATA


def test_options_of_the_data_set_win():
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = POLICIES.OFF
    data = tf.data.Dataset.range(4).with_options(options)
    data = distribute_batches(data, STRATEGY)
    policy = data.options().experimental_distribute.auto_shard_policy
    assert policy == POLICIES.OFF


def test_a_batch_of_one_device_is_whole():
    batch = {"x": np.ones([2, 3]), "mask": (np.array([True, False]),)}
    whole = gather_batch(batch, STRATEGY)
    assert whole["x"] is batch["x"]
    assert whole["mask"][0] is batch["mask"][0]
