"""What is answered, without any transport."""

import concurrent.futures
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_moe import serving
from keras_moe.serving.protocol._model_spec import ModelSpec
from keras_moe.serving.server._batcher import Batcher
from keras_moe.serving.server._call import Call
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._model_watcher import ModelWatcher
from keras_moe.serving.server._server_metrics import ServerMetrics
from tests.serving import toy_model

TOY = ModelSpec("toy")
WORD = {"word": np.array([b"ab", b"c"], object)}


@pytest.fixture(scope="module")
def watcher(models, tmp_path_factory):
    base = tmp_path_factory.mktemp("api") / "toy"
    for version in (1, 2):
        toy_model.push(models[version], base, version)
    watcher = ModelWatcher("toy", base)
    for _ in range(2):  # a version is loaded when two looks see the same
        watcher.refresh()
    yield watcher
    watcher.stop()


@pytest.fixture
def metrics():
    return ServerMetrics()


@pytest.fixture(params=["alone", "batched"])
def api(request, watcher, metrics):
    batcher = Batcher(8) if request.param == "batched" else None
    return ModelApi(watcher, metrics, batcher)


def ask(api, spec=TOY, signature_name="", inputs=WORD, output_filter=()):
    call = Call("Predict")
    prediction = api.predict(
        call, spec, signature_name, lambda signature: inputs, output_filter
    )
    assert call.version == prediction.version
    return prediction


def test_predicts_with_the_newest_version(api):
    prediction = ask(api)
    assert (prediction.version, prediction.signature_name) == (
        2,
        "serving_default",
    )
    assert prediction.outputs.keys() == {"phonemes", "score"}
    assert prediction.outputs["phonemes"].tolist() == [b"AB", b"C"]
    assert prediction.outputs["score"].tolist() == [4.0, 2.0]
    assert prediction.outputs["score"].dtype == np.float32


@pytest.mark.parametrize(
    ("spec", "version"),
    [
        (ModelSpec("toy", 1), 1),
        (ModelSpec("toy", 2), 2),
        (ModelSpec("toy", label="stable"), 1),
        (ModelSpec("toy", label="canary"), 2),
    ],
)
def test_predicts_with_the_version_that_is_meant(api, spec, version):
    prediction = ask(api, spec)
    assert prediction.version == version
    assert prediction.outputs["score"].tolist() == [2.0 * version, version]
    assert api.metadata(spec)[0] == version
    assert list(api.status(spec)) == [version]


def test_inputs_are_made_for_the_signature(api):
    seen = []

    def decode(signature):
        seen.append(signature.name)
        return WORD | {"threshold": np.array([3.0, 3.0], np.float32)}

    prediction = api.predict(Call("Predict"), TOY, "with_threshold", decode)
    assert seen == ["with_threshold"]
    assert prediction.outputs["accepted"].tolist() == [1, 0]


def test_gives_the_outputs_asked_for(api):
    assert list(ask(api, output_filter=["score"]).outputs) == ["score"]


@pytest.mark.parametrize(
    ("arguments", "error", "version"),
    [
        ({"spec": ModelSpec("other")}, tf.errors.NotFoundError, None),
        ({"spec": ModelSpec("toy", 9)}, tf.errors.NotFoundError, None),
        (
            {"spec": ModelSpec("toy", label="beta")},
            tf.errors.InvalidArgumentError,
            None,
        ),
        ({"signature_name": "none"}, tf.errors.FailedPreconditionError, 2),
        ({"inputs": {}}, tf.errors.InvalidArgumentError, 2),
        ({"output_filter": ["none"]}, tf.errors.InvalidArgumentError, 2),
        # The model itself refuses.
        ({"signature_name": "number"}, tf.errors.InvalidArgumentError, 2),
    ],
)
def test_refusals_tell_the_call_who_refused(api, arguments, error, version):
    arguments = {
        "spec": TOY,
        "signature_name": "",
        "inputs": WORD,
        **arguments,
    }
    inputs, call = arguments.pop("inputs"), Call("Predict")
    with pytest.raises(error):
        api.predict(call, decode=lambda signature: inputs, **arguments)
    assert call.version == version


def test_metadata_is_what_the_saved_model_says(api, models):
    version, definitions, certification = api.metadata(TOY)
    assert version == 2
    assert certification is None
    assert set(toy_model.SIGNATURES) <= set(definitions)
    loaded = tf.saved_model.load(str(models[2]))
    for name in toy_model.SIGNATURES:
        outputs = loaded.signatures[name].structured_outputs
        assert definitions[name].outputs.keys() == outputs.keys()
    with pytest.raises(tf.errors.NotFoundError, match=r"Latest\(other\)"):
        api.metadata(ModelSpec("other"))


def test_status_of_all_versions(api):
    states = api.status(TOY)
    assert list(states) == [2, 1]
    assert {state.state for state in states.values()} == {"AVAILABLE"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ModelSpec("other"), "any versions of model other"),
        (ModelSpec("toy", 7), "version 7 of model toy"),
        (ModelSpec("other", 1), "version 1 of model other"),
        (ModelSpec("other", label="stable"), r"Latest\(other\)"),
    ],
)
def test_status_of_what_is_not_there(api, spec, message):
    with pytest.raises(tf.errors.NotFoundError, match=message):
        api.status(spec)


def test_answers_are_logged_and_refusals_are_not(watcher, metrics, tmp_path):
    log = serving.RequestLog(tmp_path, sampling_rate=1.0)
    api = ModelApi(watcher, metrics, request_log=log)
    ask(api)
    with pytest.raises(tf.errors.InvalidArgumentError):
        ask(api, inputs={})
    log.start()
    log.stop()
    assert log.counts() == {"written": 1, "dropped": 0}


def test_no_more_run_at_a_time_than_there_are_workers(watcher, metrics):
    """Whichever transport asks: one must not crowd out the other."""
    api = ModelApi(watcher, metrics, workers=2)
    running, most = [], []

    def decode(signature):
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        return WORD

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for call in [
            pool.submit(api.predict, Call("Predict"), TOY, "", decode)
            for _ in range(6)
        ]:
            call.result()
    assert max(most) == 2
