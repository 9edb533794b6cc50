"""The page on which people try a model, as a server gives it."""

import http.client
import json
import pathlib
import re

import pytest
from prometheus_client import parser

from keras_moe.serving import server as server_room
from keras_moe.visualization._exit_colours import exit_colours
from tests.serving import toy_model

FOLDER = pathlib.Path(server_room.__file__).parent / "page"


@pytest.fixture
def get(server):
    def send(path, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port)
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        assert response.status == 200, body
        return response.headers, body

    return send


PATHS = {
    "/": "text/html; charset=utf-8",
    "/favicon.ico": "image/svg+xml",
    "/page/icon.svg": "image/svg+xml",
    "/page/page.css": "text/css; charset=utf-8",
    "/page/page.js": "text/javascript; charset=utf-8",
    "/page/model.json": "application/json",
    "/page/3/load.png": "image/png",
}


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_says_what_a_browser_may_do(get, path):
    headers, body = get(path)
    assert headers["Content-Type"] == PATHS[path] and body
    policy = dict(
        directive.split(" ", 1)
        for directive in headers["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    alone, nothing = get(path, "HEAD")
    assert alone["Content-Length"] == str(len(body)) and nothing == b""


def test_the_page_holds_no_program_and_needs_no_other_server():
    """A program in a page could be told from one that was put there."""
    for file in FOLDER.iterdir():
        text = file.read_text("utf-8")
        addresses = set(re.findall(r"\w+://[^\"'`\s]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}
        assert not re.search(r"\son\w+=|style=|javascript:", text)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|eval", text)
        assert len(text.splitlines()) <= 350


def test_what_the_page_is_made_from(get):
    document = json.loads(get("/page/model.json")[1])
    assert document["model_spec"]["name"] == "toy"
    assert document["model_spec"]["version"] == "3"
    signatures = document["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) >= set(toy_model.SIGNATURES)
    assert document["page"] == toy_model.PAGE
    assert get("/page/3/load.png")[1] == toy_model.PICTURE


def counts(get):
    text = get("/monitoring/prometheus/metrics")[1].decode()
    found = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "keras_moe_serving_requests_total":
                method = sample.labels["method"]
                found[method] = found.get(method, 0) + sample.value
    return found


def test_looking_is_no_prediction(get):
    before = counts(get)
    for path in PATHS:
        get(path)
        get(path, "HEAD")
    after = counts(get)
    assert after["Page"] == before.get("Page", 0) + 2 * len(PATHS)
    assert after.get("Predict") == before.get("Predict")


def test_colours_are_those_of_the_pictures():
    (stops,) = re.findall(
        r"STOPS = (\[.*?\]);", (FOLDER / "colours.js").read_text(), re.DOTALL
    )
    assert json.loads(stops) == exit_colours(6)
