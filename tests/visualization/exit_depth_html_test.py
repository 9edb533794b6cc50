import html.parser
import re

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe.visualization import exit_depth_html
from keras_moe.visualization._exit_colours import exit_colours
from keras_moe.visualization._exit_colours import ink_on

VOID = {"meta"}


class Page(html.parser.HTMLParser):
    """Reads a page; every tag must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        element["in"] = [e["tag"] for e in self.open]
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        if self.open:
            self.open[-1]["text"] += data

    def all(self, tag):
        return [e for e in self.elements if e["tag"] == tag]

    def texts(self, tag):
        return [e["text"] for e in self.all(tag)]


def test_tokens_tooltips_numbers_and_means():
    page = Page(
        exit_depth_html(
            [["F", "OW", ""], ["K", "AE", "T"]],
            [[1, 4, 0], [1, 2, 3]],
            8,
            title="Exits <at> 0.5",
            labels=["foe", "cat & co"],
        )
    )
    assert page.texts("span") == ["F", "OW", "K", "AE", "T"]
    depths = [1, 4, 1, 2, 3]
    for span, depth in zip(page.all("span"), depths, strict=True):
        assert span["title"] == f"exit layer {depth} of 8"
        assert span["class"] == f"layer-{depth}"
    # Not by the colour alone.
    subscripts = page.all("sub")
    assert [s["text"] for s in subscripts] == [str(d) for d in depths]
    assert all(s["in"][-1] == "span" for s in subscripts)
    means = [e["text"] for e in page.all("td") if e.get("class") == "mean"]
    assert means == ["2.5", "2.0"]
    heads = [e["text"] for e in page.all("th") if e["scope"] == "row"]
    assert heads == ["foe", "cat & co"]
    assert page.texts("title") == page.texts("figcaption") == ["Exits <at> 0.5"]
    legend = page.all("li")
    assert [e["text"] for e in legend] == [str(i) for i in range(1, 9)]
    assert [e["class"] for e in legend] == [f"layer-{i}" for i in range(1, 9)]


def test_the_colours_are_those_of_the_picture():
    page = exit_depth_html([["a"]], [[1]], 5)
    (style,) = Page(page).texts("style")
    rules = re.findall(
        r"\.exit-depth-5 \.layer-(\d) { background: (\S+); color: (\S+); }",
        style,
    )
    assert rules == [
        (str(layer), colour, ink_on(colour))
        for layer, colour in enumerate(exit_colours(5), 1)
    ]
    # Rules of two pages in one notebook have different names.
    assert 'class="exit-depth exit-depth-5"' in page


def test_needs_nothing_else_and_takes_dark_mode():
    text = exit_depth_html([["a"]], [[1]], 5, title="t")
    page = Page(text)
    tags = {element["tag"] for element in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    for word in ("http:", "https:", "url(", "@import", "src=", "href="):
        assert word not in text
    metas = {e.get("name"): e.get("content") for e in page.all("meta")}
    assert metas["color-scheme"] == "light dark"
    # All colours of texts come together with one of their background.
    (style,) = page.texts("style")
    for rule in re.findall(r"{[^}]*}", style):
        if re.search(r"[^-]color:", rule):
            assert "background:" in rule
    assert page.all("html")[0]["lang"] == "en"


@settings(deadline=None)
@given(
    st.lists(
        st.text(
            st.one_of(
                st.sampled_from("<>&\"'/=!-;"),
                st.characters(exclude_categories=["C", "Z"]),
            ),
            min_size=1,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_token_is_text(tokens):
    page = Page(
        exit_depth_html(
            [tokens], [[1] * len(tokens)], 1, tokens[0], labels=[tokens[0]]
        )
    )
    assert page.texts("span") == tokens
    assert page.texts("title") == page.texts("figcaption") == tokens[:1]
    assert [e["text"] for e in page.all("th") if e["scope"] == "row"] == [
        tokens[0]
    ]


def test_markup_in_a_token_is_no_markup():
    attack = '</span><script>alert("x")</script>'
    text = exit_depth_html([[attack]], [[1]], 2, attack, labels=[attack])
    assert "<script" not in text
    assert Page(text).texts("span") == [attack]


def test_without_title_and_labels():
    page = Page(exit_depth_html([["a"], ["b"]], [[1], [0]], 2))
    assert not page.all("figcaption")
    assert page.texts("title") == ["Exit depth"]
    assert {e["scope"] for e in page.all("th")} == {"col"}
    assert len(page.all("span")) == 1


def test_writes_the_page(tmp_path):
    path = tmp_path / "exits.html"
    text = exit_depth_html([["ʃ", "▁é"]], [[1, 2]], 2, path=path)
    assert path.read_bytes().decode("utf-8") == text
    assert 'charset="utf-8"' in text
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="must be in .0, num_layers"):
        exit_depth_html([["a"]], [[3]], 2, path=path)
    assert path.read_bytes().decode("utf-8") == text
    with pytest.raises(FileNotFoundError, match="in a folder that exists"):
        exit_depth_html([["a"]], [[1]], 2, path=tmp_path / "none" / "a.html")
    with pytest.raises(TypeError, match="must be a sequence of strings"):
        exit_depth_html(["ab"], [[1, 2]], 2)
