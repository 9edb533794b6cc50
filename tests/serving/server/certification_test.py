"""What a server says of a certificate, to clients, operators and its log."""

import logging
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keras_moe import serving
from keras_moe.serving.server._server_metrics import PATH
from tests.serving.versions.certification_test import ANOTHER
from tests.serving.versions.certification_test import CERTIFICATE
from tests.serving.versions.certification_test import write

TIMEOUT = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("certified")
    write(base / "1", CERTIFICATE)
    with serving.Server("certified", base, poll_seconds=0.05) as server:
        server.wait_until_available(TIMEOUT)
        yield server


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
def test_a_client_sees_what_is_certified(server, port):
    ports = {port: getattr(server, port)}
    with serving.Client(model_name="certified", **ports) as client:
        seen = client.certificate()
        assert client.metadata()["serving_default"].inputs
    assert seen == {
        "threshold": 0.5,
        "tolerance": 0.05,
        "bounds": "expected loss",
        "confidence_level": 0.95,
        "n": 200,
        "p_value": CERTIFICATE.p_value,
        "fingerprint": "abc",
        "digest": CERTIFICATE.digest,
        "is_bound": True,
        "deferral_share": None,
    }


def test_metrics_show_it(server):
    url = f"http://127.0.0.1:{server.rest_port}{PATH}"
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    (sample,) = [
        sample
        for family in families
        if family.name == "keras_moe_serving_certified"
        for sample in family.samples
    ]
    assert sample.labels == {
        "version": "1",
        "threshold": "0.5",
        "tolerance": "0.05",
        "bounds": "expected loss",
        "confidence_level": "0.95",
        "is_bound": "true",
    }


def test_a_forged_certificate_is_not_served(server, eventually, caplog):
    base = server.servable.path.parent
    write(base / "forged", CERTIFICATE)
    ANOTHER.save(base / "forged" / "assets.extra" / "certificate.json")
    (base / "forged").rename(base / "2")
    with caplog.at_level(logging.ERROR):
        eventually(lambda: server.versions().get(2, ("",))[0] == "END")
    assert server.servable.version == 1
    assert "Version 2 of certified cannot be served" in caplog.text
