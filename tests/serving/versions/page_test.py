"""What a page may say, and what becomes of one that cannot be shown."""

import json
import types

import pytest

from keras_moe.model_folder import PAGE
from keras_moe.serving.versions._page import Page
from keras_moe.serving.versions._page import check_page
from keras_moe.serving.versions._page import read_page

SIGNATURES = {
    "serving_default": types.SimpleNamespace(
        inputs={"word": None}, outputs={"text": None, "depth": None}
    ),
    "other": types.SimpleNamespace(inputs={"k": None}, outputs={"n": None}),
}
WHOLE = {
    "title": "Words",
    "description": "What they are.",
    "signatures": ["serving_default"],
    "inputs": {
        "word": {"label": "Word", "hint": "", "example": "a", "rows": 3}
    },
    "outputs": {
        "text": {"label": "Text", "depth": "depth", "layers": 4},
        "depth": {"scores": "depth", "hidden_when": [0, 0.5]},
    },
    "pictures": [{"file": "a_b-1.png", "title": "Load", "alt": "A map"}],
}


@pytest.mark.parametrize("page", [{}, WHOLE, {"inputs": {"k": {}}}])
def test_what_can_be_shown(page):
    check_page(page, SIGNATURES)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ([], "`page` must be a dictionary. Received: "),
        ({"titel": "x"}, "`page` must name some of .*Received: 'titel'"),
        ({"title": 1}, r"`page\['title'\]` must be text. Received: 1"),
        ({"signatures": []}, "a list of names, at least one"),
        ({"signatures": ["x"]}, "must name some of .'other', 'serving_default"),
        ({"inputs": {"text": {}}}, "must name some of .'k', 'word'"),
        (
            {"signatures": ["other"], "inputs": {"word": {}}},
            "must name some of .'k'.. Received: 'word'",
        ),
        ({"inputs": {"word": "Word"}}, "must be a dictionary"),
        ({"inputs": {"word": {"rows": 0}}}, "an integer from 1 to 1000"),
        ({"inputs": {"word": {"rows": True}}}, "an integer from 1 to 1000"),
        ({"inputs": {"word": {"example": {}}}}, "text, a number, a boolean"),
        ({"inputs": {"word": {"example": 1e999}}}, "text, a number, a boolean"),
        ({"outputs": {"text": {"depth": "x"}}}, "Received: 'x'"),
        ({"outputs": {"text": {"depth": []}}}, "must be text"),
        ({"pictures": {}}, "must be a list"),
        ({"pictures": [{"file": "a.png"}]}, "must say 'alt'"),
        ({"pictures": [{"file": "a.svg", "alt": ""}]}, "end with one of"),
        ({"pictures": [{"file": "../a.png", "alt": ""}]}, "letters, digits"),
        ({"pictures": [{"file": ".png", "alt": ""}]}, "letters, digits"),
    ],
)
def test_what_cannot_be_shown(page, message):
    with pytest.raises(ValueError, match=message):
        check_page(page, SIGNATURES)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / PAGE).parent.mkdir()
    return tmp_path


def test_reading(folder):
    assert read_page(folder, SIGNATURES) is None
    (folder / PAGE).write_text(json.dumps(WHOLE))
    (folder / PAGE).with_name("a_b-1.png").write_bytes(b"picture")
    page = read_page(folder, SIGNATURES)
    assert page == Page(WHOLE, {"a_b-1.png": b"picture"})


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"titel": ""}',
        b'{"inputs": {"word": {"example": NaN}}}',
        b'{"pictures": [{"file": "missing.png", "alt": ""}]}',
        b" " * (5 << 20),
    ],
)
def test_a_file_that_lies_is_left_out(folder, content, caplog):
    (folder / PAGE).write_bytes(content)
    assert read_page(folder, SIGNATURES) is None
    (record,) = caplog.records
    assert "The page is made without" in record.getMessage()
    assert "page.json" in record.getMessage()
