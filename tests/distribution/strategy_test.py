"""Which strategy is made of what is asked for; all devices are faked."""

import json
from unittest import mock

import keras
import pytest
import tensorflow as tf

from keras_moe.distribution._strategy import strategy

CLUSTER = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
WORKER = {"type": "worker", "index": 1}


def test_default_is_what_is_in_scope():
    assert strategy() is tf.distribute.get_strategy()
    one = tf.distribute.OneDeviceStrategy("CPU:0")
    with one.scope():
        assert strategy("default") is one


def test_mirrored_takes_the_devices_that_are_named():
    made = strategy("mirrored", devices=["CPU:0"])
    assert isinstance(made, tf.distribute.MirroredStrategy)
    assert made.num_replicas_in_sync == 1
    with mock.patch.object(tf.distribute, "MirroredStrategy") as class_:
        strategy("mirrored", devices=("GPU:0", "GPU:1"))
        strategy("mirrored")
    assert class_.call_args_list == [
        mock.call(["GPU:0", "GPU:1"]),
        mock.call(None),
    ]


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("parameter_server", {}, "`kind` must be one of"),
        ("mirrored", {"tpu": "local"}, "`tpu` must be None unless kind='tpu'"),
        ("tpu", {"devices": ["CPU:0"]}, "unless kind='mirrored'"),
    ],
)
def test_what_does_not_exist_is_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        strategy(kind, **options)


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "`TF_CONFIG` must be JSON"),
        ("", "Received: TF_CONFIG=''"),
        ("{", r"Received: '\{'"),
        ("[]", "`TF_CONFIG` must be JSON"),
        (json.dumps({"task": WORKER}), 'it has no "cluster" of "worker"'),
        (json.dumps({"cluster": {"ps": ["a:1"]}, "task": WORKER}), "it has no"),
        (json.dumps({"cluster": CLUSTER}), 'its "task" must have the type'),
        (
            json.dumps({"cluster": CLUSTER, "task": {"type": "worker"}}),
            "and an index",
        ),
        (
            json.dumps({"cluster": CLUSTER, "task": {**WORKER, "index": 2}}),
            'the index of its "task" must be below 2',
        ),
    ],
)
def test_tf_config_is_checked(monkeypatch, text, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with (
        mock.patch.object(
            tf.distribute, "MultiWorkerMirroredStrategy"
        ) as class_,
        pytest.raises(ValueError, match=message),
    ):
        strategy("multi_worker")
    class_.assert_not_called()


def test_several_workers_come_first_in_a_program(monkeypatch):
    monkeypatch.setenv(
        "TF_CONFIG", json.dumps({"cluster": CLUSTER, "task": WORKER})
    )
    tf.constant(1.0) + 1.0
    with pytest.raises(RuntimeError, match="make it first thing"):
        strategy("multi_worker")
    other = RuntimeError("no network")
    with (
        mock.patch.object(
            tf.distribute, "MultiWorkerMirroredStrategy", side_effect=other
        ),
        pytest.raises(RuntimeError, match="^no network$"),
    ):
        strategy("multi_worker")


@pytest.mark.parametrize("name, wanted", [(None, "local"), ("pod", "pod")])
def test_a_tpu_is_connected_to_and_initialised(name, wanted):
    resolvers = tf.distribute.cluster_resolver
    with (
        mock.patch.object(resolvers, "TPUClusterResolver") as resolver,
        mock.patch.object(tf.distribute, "TPUStrategy") as class_,
    ):
        made = strategy("tpu", tpu=name)
    # It initialises the system, too.
    resolver.connect.assert_called_once_with(wanted)
    class_.assert_called_once_with(resolver.connect.return_value)
    assert made is class_.return_value


def test_no_tpu_is_said_so():
    with pytest.raises(RuntimeError, match="No TPU was found.*tpu=None"):
        strategy("tpu")


def test_another_backend_is_refused():
    with (
        mock.patch.object(keras.backend, "backend", return_value="jax"),
        pytest.raises(RuntimeError, match="`keras.distribution.DataParallel`"),
    ):
        strategy()
