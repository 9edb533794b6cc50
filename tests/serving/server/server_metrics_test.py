"""The metrics: what is counted, and how Prometheus reads it."""

import json
import pathlib
import re
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from prometheus_client import parser

import pipelines
from keras_moe import serving
from keras_moe.model_folder import CERTIFICATE
from keras_moe.serving.server._server_metrics import ServerMetrics
from tests.serving import toy_model
from tests.serving.server.deferral_shares_test import certificate

DEPLOY = pathlib.Path(pipelines.__file__).parent / "deploy"
PREFIX = "keras_moe_serving_"


class Exiting(tf.Module):
    """Tokens leave after the layer that their letter says; 0 is padding.

    Words of one letter are deferred.
    """

    @tf.function(input_signature=[toy_model.WORDS])
    def serving_default(self, word):
        layers = tf.strings.to_number(
            tf.strings.bytes_split(word).to_tensor("0", shape=[None, 4]),
            tf.int32,
        )
        stage = tf.cast(tf.strings.length(word) == 1, tf.int32)
        return {"exit_layer": layers, "stage": stage}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("metrics") / "toy"
    model = Exiting()
    for version in ("1", "2"):
        tf.saved_model.save(model, str(base / version), model.serving_default)
        (base / version / "assets.extra").mkdir()
        certificate().save(base / version / CERTIFICATE)
    log = serving.RequestLog(base / "log", 1.0)
    with serving.Server(
        "toy", base, poll_seconds=0.05, max_batch_rows=8, request_log=log
    ) as server:
        server.wait_until_available()
        while len(server.labels()) < 2 or server.labels()["stable"] == 2:
            pass
        yield server


def scrape(server):
    """Gives each sample, by its name and labels."""
    url = f"http://127.0.0.1:{server.rest_port}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        assert response.headers["Content-Type"].startswith(
            "text/plain; version=0.0.4"
        )
        text = response.read().decode()
    samples = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            key = (
                sample.name.removeprefix(PREFIX),
                *sorted(sample.labels.items()),
            )
            assert key not in samples
            samples[key] = sample.value
    return samples


def value(samples, name, **labels):
    return samples.get((name, *sorted(labels.items())), 0.0)


def test_requests_errors_versions_and_exits(server):
    before = scrape(server)
    with serving.Client(
        grpc_port=server.grpc_port,
        rest_port=server.rest_port,
        model_name="toy",
    ) as client:
        for _ in range(3):
            client.predict({"word": ["12", "3"]}, label="stable")
        client.predict({"word": ["9"]})
        client.predict_rest({"word": ["2"]})
        for inputs in ({"word": ["x"]}, {"word": [1.0]}, {}):
            with pytest.raises(serving.ServingError):
                client.predict(inputs)
        with pytest.raises(serving.ServingError):
            client.predict({"word": ["1"]}, version=9)
    after = scrape(server)

    def grown(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    grpc = {"api": "grpc", "method": "Predict"}
    assert grown("requests_total", code="OK", version="1", **grpc) == 3
    assert grown("requests_total", code="OK", version="2", **grpc) == 1
    assert (
        grown("requests_total", code="INVALID_ARGUMENT", version="2", **grpc)
        == 3
    )
    assert grown("requests_total", code="NOT_FOUND", version="", **grpc) == 1
    rest = {"api": "rest", "code": "OK", "method": "Predict", "version": "2"}
    assert grown("requests_total", **rest) == 1
    assert grown("request_seconds_count", version="1", **grpc) == 3
    assert 0 < grown("request_seconds_sum", version="1", **grpc) < 30
    # "12" and "3", three times.
    for le, count in (("1.0", 3), ("2.0", 6), ("3.0", 9), ("+Inf", 9)):
        assert grown("exit_layer_bucket", le=le, version="1") == count
    assert grown("exit_layer_sum", version="1") == 18
    assert grown("exit_layer_sum", version="2") == 11
    # Of "12" and "3", three times, the second alone.
    assert grown("cascade_rows_total", version="1") == 6
    assert grown("deferred_rows_total", version="1") == 3
    assert grown("batch_rows_sum") == 9  # "x" ran too
    assert grown("request_log_records_total", outcome="dropped") == 0
    assert value(after, "version_state", version="1", state="AVAILABLE") == 1
    assert value(after, "version_label", version="1", label="stable") == 1
    assert value(after, "version_label", version="2", label="canary") == 1
    assert value(after, "process_resident_memory_bytes") > 1e6


def test_buckets_hold_every_request(server):
    samples = scrape(server)
    for (name, *labels), total in samples.items():
        if name.endswith("_count"):
            everything = tuple(sorted([*labels, ("le", "+Inf")]))
            bucket = name.removesuffix("_count") + "_bucket"
            assert samples[(bucket, *everything)] == total


def test_a_version_that_is_gone_is_forgotten():
    metrics = ServerMetrics()
    for version in (1, 12):
        metrics.count_request("grpc", "Predict", "OK", 0.1, version)
        metrics.count_exits(version, np.array([[1, 0]]))
    metrics.drop_version(1)
    text = metrics.expose().decode()
    assert 'version="12"' in text
    assert 'version="1"' not in text


def test_a_server_without_a_log_shows_that_none_was_written():
    text = ServerMetrics().expose().decode()
    for outcome in ("written", "dropped"):
        name = f"{PREFIX}request_log_records_total"
        assert f'{name}{{outcome="{outcome}"}} 0.0' in text


def test_every_query_of_the_dashboard_has_its_metric(server):
    test_requests_errors_versions_and_exits(server)
    labels = {}
    for name, *pairs in scrape(server):
        labels.setdefault(name, set()).update(key for key, _ in pairs)
    dashboard = json.loads((DEPLOY / "grafana_dashboard.json").read_text())
    queries = [
        target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    used = set()
    for query in queries:
        for name in re.findall(rf"\b({PREFIX}\w+|process_\w+)", query):
            used.add(name.removeprefix(PREFIX))
        matched = re.findall(rf"{PREFIX}(\w+)\{{([^}}]*)\}}", query)
        for name, matchers in matched:
            keys = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert keys - {"job", "instance"} <= labels[name], query
    assert len(queries) >= 8
    assert used <= labels.keys()
    # And nothing of what the issue asks for is left out.
    assert {
        "requests_total",
        "request_seconds_bucket",
        "exit_layer_bucket",
        "version_label",
        "version_state",
        "batch_rows_sum",
        "request_log_records_total",
        "deferral_share",
        "deferral_share_certified",
        "deferral_alarm",
    } <= used
    assert "job" in json.dumps(dashboard["templating"])
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
