"""The page on which people try a model, in a browser."""

import contextlib
import pathlib
import shutil

import pytest
import tensorflow as tf

from keras_moe import serving
from tests.serving import toy_model
from tests.serving.browser import CHROMIUM
from tests.serving.browser import Browser

pytestmark = [
    pytest.mark.large,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]
TOKEN = "a-long-enough-secret"
FORM = "document.querySelectorAll('#fields .field').length"
CARD = "document.querySelector('#answer .card')"
ATTACK = "<img src=x onerror=\"document.title='taken'\"><script>1</script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser
        assert browser.complaints() == []


@contextlib.contextmanager
def serving_of(base, **options):
    with serving.Server(
        base.name, base, poll_seconds=0.05, grpc_port=None, **options
    ) as server:
        server.wait_until_available()
        yield server


def address(server):
    return f"http://127.0.0.1:{server.rest_port}/"


class Deep(tf.Module):
    """Answers with depths, an attack, and what JSON has no word for."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def serving_default(self, inputs):
        rows = tf.size(inputs)
        depths = tf.constant([[1, 2, 5, 1, 0]])
        return {
            "outputs": inputs,
            "exit_layer": tf.repeat(depths, rows, axis=0),
            "odd": tf.fill([rows], float("nan")),
            "large": tf.fill([rows], tf.constant(2**60 + 1, tf.int64)),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, "pair"),
            tf.TensorSpec([], tf.int64, "whole"),
            tf.TensorSpec([None], tf.bool, "doubled"),
        ]
    )
    def mixed(self, pair, whole, doubled):
        tf.debugging.assert_positive(whole, "`whole` must be positive.")
        factor = tf.where(doubled, 2.0, 1.0)
        return {"made": tf.reduce_sum(pair, 1) * factor, "whole": whole}


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A model without a page, served under a name that is an attack."""
    base = tmp_path_factory.mktemp("deep") / "deep <b>"
    model = Deep()
    tf.saved_model.save(
        model,
        str(base / "1"),
        signatures={
            "mixed": model.mixed,
            "serving_default": model.serving_default,
        },
    )
    with serving_of(base) as server:
        yield server


def choose(browser, signature):
    browser.run(
        "(s => { s.value = " + repr(signature) + "; s.dispatchEvent("
        "new Event('change')) })(document.querySelector('#signature'))"
    )


def fill(browser, number, text):
    browser.run(f"document.querySelector('#input-{number}').select()")
    browser.type(text)


def ask(browser):
    browser.run("document.querySelector('#answer').replaceChildren()")
    browser.enter()
    browser.wait(f"{CARD} || document.querySelector('#problem').textContent")


def test_the_keyboard_is_enough(browser, server):
    browser.go(address(server))
    browser.wait(FORM)
    assert [browser.tab() for _ in range(3)] == ["signature", "input-0", "ask"]
    ring = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.run(ring) == "solid"
    ask(browser)
    assert "Loud\nAB" in browser.text("#answer")
    assert "Length\n2" in browser.text("#answer")
    # What is asked again begins in the field, with Enter.
    browser.run("document.querySelector('#input-0').focus()")
    fill(browser, 0, "")
    ask(browser)
    assert browser.text("#answer .value") == ""
    assert "Length" not in browser.text("#answer .output")


def test_a_screen_reader_is_told_all(browser, server):
    browser.go(address(server))
    browser.wait(FORM)
    browser.wait("document.querySelector('#pictures img')")
    roles = browser.roles()
    for expected in (
        ("heading", "Loud <b>words</b>"),
        ("combobox", "Signature"),
        ("textbox", "Word"),
        ("button", "Ask"),
        ("alert", ""),
        ("region", "Answer"),
        ("image", "A pixel"),
    ):
        assert expected in roles
    assert browser.run("document.documentElement.lang") == "en"
    live = "document.querySelector('#answer').getAttribute('aria-live')"
    assert browser.run(live) == "polite"
    assert browser.run("document.querySelector('b')") is None
    assert browser.run("document.title") == "Loud <b>words</b>"


def test_depths_are_read_and_seen(browser, deep):
    browser.go(address(deep))
    browser.wait(FORM)
    browser.run("document.querySelector('#input-0').focus()")
    fill(browser, 0, "K AE T")
    ask(browser)
    cell = "[...document.querySelectorAll('.depths li')]"
    assert browser.run(f"{cell}.map(e => e.textContent)") == [
        *("K layer 1", "AE layer 2", "T layer 5")
    ]
    colours = browser.run(f"{cell}.map(e => e.style.backgroundColor)")
    assert len(set(colours)) == 3
    assert "on average 2.7" in browser.text(".legend")
    assert browser.run("document.querySelectorAll('.legend li').length") == 5
    whole = browser.text("#answer")
    assert "NaN" in whole and str(2**60 + 1) in whole
    assert ("list", "Colours of layers 1 to 5") in browser.roles()


def test_what_a_model_says_is_text(browser, deep):
    browser.go(address(deep))
    browser.wait(FORM)
    browser.run("document.querySelector('#input-0').focus()")
    fill(browser, 0, ATTACK.replace(" ", "\u2003"))
    ask(browser)
    assert "<img" in browser.text("#answer")
    assert browser.run("document.querySelectorAll('#answer img').length") == 0
    assert browser.text("#title") == browser.run("document.title") == "deep <b>"


def test_inputs_of_every_kind(browser, deep):
    browser.go(address(deep))
    browser.wait(FORM)
    choose(browser, "mixed")
    labels = "[...document.querySelectorAll('label')].map(e => e.textContent)"
    assert browser.run(labels)[-3:] == ["doubled", "pair", "whole"]
    browser.run("document.querySelector('#input-0').click()")
    fill(browser, 1, "1.5, 2")
    fill(browser, 2, str(2**60))
    ask(browser)
    assert "made\n7\n" in browser.text("#answer")
    assert f"whole\n{2**60}\n" in browser.text("#answer")
    shell = "document.querySelector('#answer details:last-child pre')"
    command = browser.run(f"{shell}.textContent")
    assert f'"pair": [[1.5, 2]], "whole": {2**60}}}' in command
    assert "/v1/models/deep%20%3Cb%3E/versions/1:predict" in command


def test_what_is_wrong_is_said_beside_the_field(browser, deep):
    browser.go(address(deep))
    browser.wait(FORM)
    choose(browser, "mixed")
    fill(browser, 1, "[1, ")
    fill(browser, 2, "1.5")
    browser.enter()
    browser.wait("document.activeElement.id === 'input-1'")
    assert "must be JSON: a list of 2" in browser.text("#wrong-1")
    assert browser.text("#wrong-2") == "This must be a whole number."
    invalid = "document.querySelector('#input-2').ariaInvalid"
    assert browser.run(invalid) == "true"
    described = "document.querySelector('#input-2').ariaDescribedByElements"
    assert browser.run(f"{described}.map(e => e.id)") == ["hint-2", "wrong-2"]
    # What the model refuses is a sentence of the server's.
    fill(browser, 1, "1, 2")
    fill(browser, 2, "-1")
    browser.enter()
    browser.wait("document.querySelector('#problem').textContent")
    assert "`whole` must be positive." in browser.text("#problem")
    assert browser.run(CARD) is None
    # The browser logs each answer that is an error.
    browser.events.clear()


def test_a_token_is_asked_for_and_forgotten(browser, models, tmp_path):
    base = tmp_path / "toy"
    toy_model.push(models[1], base, 1)
    with serving_of(base, token=TOKEN) as server:
        browser.go(address(server))
        browser.wait("document.activeElement.id === 'token'")
        assert "toy" not in browser.text()
        browser.type("wrong")
        browser.enter()
        browser.wait(
            "document.querySelector('#problem').textContent.includes('know')"
        )
        browser.type(TOKEN)
        browser.enter()
        browser.wait(FORM)
        browser.wait("document.querySelector('#pictures img')")
        assert browser.run("document.querySelector('#token-form').hidden")
        browser.run("document.querySelector('#ask').focus()")
        ask(browser)
        assert "Loud\nAB" in browser.text("#answer")
        assert TOKEN not in browser.run("document.documentElement.outerHTML")
        assert browser.run("localStorage.length + sessionStorage.length") == 0
    browser.events.clear()


def test_versions_come_and_the_server_goes(browser, models, tmp_path):
    base = tmp_path / "toy"
    with serving.Server(
        "toy", base, poll_seconds=0.05, grpc_port=None
    ) as server:
        browser.go(address(server))
        browser.wait("document.querySelector('#problem').textContent")
        assert "Servable not found" in browser.text("#problem")
        toy_model.push(models[1], base, 1)
        browser.wait(FORM)
        assert browser.text("#problem") == ""
        browser.run("document.querySelector('#input-0').focus()")
        fill(browser, 0, "kept")
        second = shutil.copytree(models[2], tmp_path / "second")
        serving.write_page(second, {"title": "Louder"})
        toy_model.push(second, base, 2)
        while server.labels().get("canary") != 2:
            pass
        ask(browser)
        assert "Version 2" in browser.text("#answer")
        assert "KEPT" in browser.text("#answer")
        assert browser.text("#title") == "Louder"
        assert browser.run("document.querySelector('#pictures img')") is None
        assert "version 2" in browser.text("#about")
    browser.enter()
    browser.wait("document.querySelector('#problem').textContent")
    assert browser.text("#problem") == "The server cannot be reached."
    browser.events.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_and_can_be_read(browser, deep, scheme):
    browser.show(320, 640, scheme)
    browser.go(address(deep))
    browser.wait(FORM)
    browser.run("document.querySelector('#input-0').focus()")
    fill(browser, 0, "W" * 300)
    ask(browser)
    assert browser.run("document.documentElement.scrollWidth") == 320
    script = pathlib.Path(__file__).with_name("contrast.js").read_text()
    for selector, least in browser.run(script).items():
        assert least >= 4.5, selector
