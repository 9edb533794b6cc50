"""The share of deferred rows: what counts, and when there is an alarm."""

import dataclasses
import logging
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from prometheus_client import parser
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from keras_moe import serving
from keras_moe.calibration import DeferralRule
from keras_moe.calibration import calibrate_cascade
from keras_moe.serving.server._call import counted
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.versions._certification import DeferralRange
from keras_moe.serving.versions._certification import read_certification
from tests.serving import toy_model

RANGE = DeferralRange(0, 0.2, 0.4)
PREFIX = "keras_moe_serving_"


def samples(text):
    found = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            if "defer" in sample.name or "cascade_rows" in sample.name:
                labels = [v for _, v in sorted(sample.labels.items())]
                name = sample.name.removeprefix(PREFIX)
                found[(name, *labels)] = sample.value
    return found


def shown(metrics):
    return samples(metrics.expose().decode())


def stages(rows, deferred, stage=1):
    answer = np.zeros(rows, np.int32)
    answer[:deferred] = stage
    return answer


def test_nothing_answered_is_told_apart_from_nothing_deferred():
    metrics = ServerMetrics()
    assert shown(metrics) == {}
    metrics.count_stages(1, stages(3, 0), None)
    assert shown(metrics) == {
        ("cascade_rows_total", "1"): 3,
        ("deferred_rows_total", "1"): 0,
        ("deferral_share", "1"): 0,
    }
    # An empty request answers nothing.
    metrics.count_stages(2, stages(0, 0), None)
    assert ("deferral_share", "2") not in shown(metrics)


def test_an_alarm_begins_and_ends(caplog):
    metrics = ServerMetrics()
    caplog.set_level(logging.INFO, "keras_moe")

    def ask(times, deferred):
        for _ in range(times):
            metrics.count_stages(7, stages(10, deferred), RANGE)
        found = shown(metrics)
        return found["deferral_share", "7"], found["deferral_alarm", "7"]

    # A few rows show nothing, however many of them are deferred.
    assert ask(1, 10) == (1.0, 0)
    assert ask(99, 3) == (pytest.approx(0.307), 0)
    assert not caplog.records
    assert ask(100, 6) == (0.6, 1)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == (
        "Version 7 defers 60.0 % of its rows, which is not what was certified: "
        "what is asked is not like the calibration, and the certificate says "
        "nothing of it. Certified: 20.0 to 40.0 %"
    )
    # Said once.
    assert ask(100, 6) == (0.6, 1) and len(caplog.records) == 1
    # Until a window is full, the last one counts.
    assert ask(99, 3) == (0.6, 1)
    assert ask(1, 3) == (0.3, 0)
    assert "within what was certified again" in caplog.records[-1].message
    # Below the range, too: the small stage has become too sure.
    assert ask(100, 0) == (0.0, 1)


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_chance_raises_hardly_any_alarm(share):
    """At an end of the range, where it is likeliest."""
    rng, metrics = np.random.default_rng(0), ServerMetrics()
    for _ in range(300):
        answer = (rng.random(1000) < share).astype("int32")
        metrics.count_stages(1, answer, RANGE)
        assert shown(metrics)["deferral_alarm", "1"] == 0


@pytest.mark.parametrize(
    ("certified", "deferred", "alarm"),
    [
        (DeferralRange(0, 0.0, 0.0), 0, 0),
        (DeferralRange(0, 0.0, 0.0), 1, 1),
        (DeferralRange(0, 1.0, 1.0), 999, 1),
        (DeferralRange(0, 0.0, 1.0), 1000, 0),
    ],
)
def test_the_ends_of_all_shares(certified, deferred, alarm):
    metrics = ServerMetrics()
    metrics.count_stages(1, stages(1000, deferred), certified)
    assert shown(metrics)["deferral_alarm", "1"] == alarm


def test_of_a_later_stage_rows_count_that_reach_it():
    metrics = ServerMetrics()
    answer = np.array([0] * 6 + [1] * 3 + [2])
    metrics.count_stages(1, answer, RANGE._replace(stage=1))
    assert shown(metrics)["deferral_share", "1"] == 0.25
    metrics.count_stages(2, answer, RANGE)
    assert shown(metrics)["deferral_share", "2"] == 0.4


def test_a_version_that_is_gone_or_loaded_again_is_forgotten():
    metrics = ServerMetrics()
    for version in (1, 12):
        metrics.count_stages(version, stages(1000, 1000), RANGE)
    metrics.drop_version(1)
    assert {key[-1] for key in shown(metrics)} == {"12"}
    # The same number, with another certificate.
    metrics.count_stages(12, stages(5, 5), DeferralRange(0, 0.5, 1.0))
    assert shown(metrics)["deferral_alarm", "12"] == 0
    assert shown(metrics)["cascade_rows_total", "12"] == 5


class Cascade(tf.Module):
    """The letter of a word says which stage answers; "x" breaks the model."""

    @tf.function(input_signature=[toy_model.WORDS])
    def serving_default(self, word):
        stage = tf.strings.to_number(word, tf.int32)
        return {"phonemes": word, "stage": stage}

    @tf.function(input_signature=[toy_model.WORDS])
    def other(self, word):
        # Other models may have outputs of that name.
        return {"stage": tf.strings.join([word, "!"])}


def certificate(**change):
    granted = calibrate_cascade(
        DeferralRule(),
        np.linspace(0.0, 1.0, 1000),
        *np.zeros([2, 1000]),
        [0.7],
        budget=0.4,
    )
    return dataclasses.replace(granted, policy={**granted.policy, **change})


def write_version(folder, granted):
    model = Cascade()
    signatures = {
        "serving_default": model.serving_default,
        "other": model.other,
    }
    tf.saved_model.save(model, str(folder), signatures)
    (folder / "assets.extra").mkdir(exist_ok=True)
    granted.save(folder / "assets.extra" / "certificate.json")
    warm = [("serving_default", {"word": [b"1"] * 9})]
    serving.write_warmup_requests(folder, warm)


@pytest.fixture(scope="module", params=[None, 8])
def server(request, tmp_path_factory):
    base = tmp_path_factory.mktemp("deferral") / "toy"
    write_version(base / "1", certificate())
    with serving.Server(
        "toy", base, poll_seconds=0.05, max_batch_rows=request.param
    ) as server:
        server.wait_until_available()
        yield server


def scrape(server):
    url = f"http://127.0.0.1:{server.rest_port}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        return samples(response.read().decode())


def ask_for(server, output, word):
    """Asks over gRPC for one output alone."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "toy"
    request.inputs["word"].CopyFrom(tf.make_tensor_proto([word]))
    request.output_filter.append(output)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return stub.Predict(request, timeout=10).outputs


def test_a_server_counts_what_it_answered(server):
    found = scrape(server)
    # Warm-up requests do not count: nobody was answered.
    assert ("deferral_share", "1") not in found
    assert found["deferral_share_certified", "high", "1"] == 0.4
    assert 0.2 < found["deferral_share_certified", "low", "1"] < 0.3
    with serving.Client(
        grpc_port=server.grpc_port, rest_port=server.rest_port, model_name="toy"
    ) as client:
        assert client.certificate()["bounds"] == "share of deferred rows"
        client.predict({"word": ["0", "1", "2"]})
        client.predict_rest({"word": ["0", "0"]})
        # Who asks for other outputs is answered by a stage all the same.
        assert list(ask_for(server, "phonemes", "1")) == ["phonemes"]
        # What failed is asked again, and counts once.
        with pytest.raises(serving.ServingError):
            client.predict({"word": ["0", "x"]})
        client.predict({"word": ["0", "1"]})
        client.predict({"word": ["1"]}, signature_name="other")
    found = scrape(server)
    assert found["cascade_rows_total", "1"] == 8
    assert found["deferred_rows_total", "1"] == 4
    assert found["deferral_share", "1"] == 0.5
    assert found["deferral_alarm", "1"] == 0


def test_an_answer_that_nobody_gets_does_not_count():
    """The client has left, and will ask again."""
    metrics = ServerMetrics()
    for code in ("CANCELLED", "OK"):
        with counted(metrics, "grpc", "Predict") as call:
            call.when_answered = lambda: metrics.count_stages(
                1, stages(2, 1), None
            )
            call.code = code
    with pytest.raises(ConnectionError), counted(metrics, "rest") as call:
        call.when_answered = lambda: metrics.count_stages(1, stages(2, 1), None)
        raise ConnectionError
    assert shown(metrics)["cascade_rows_total", "1"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"deferral_share": "0.1"},
        {"deferral_share": [0.3]},
        {"deferral_share": [0.4, 0.3]},
        {"deferral_share": [0.1, "x"]},
        {"stage": -1},
        {"stage": None},
    ],
)
def test_a_certificate_that_says_no_range_is_refused(tmp_path, change):
    write_version(tmp_path / "1", certificate(**change))
    with pytest.raises(tf.errors.DataLossError, match="`deferral_share`"):
        read_certification(tmp_path / "1")
