"""Shows on the first page the README's table of what one wants to do."""

import pathlib
import re

README = pathlib.Path(__file__).parents[1] / "README.md"
MARK = "<!-- the table of README.md -->"


def on_page_markdown(markdown, **kwargs):
    """Puts the table where a page has the mark."""
    return markdown.replace(MARK, table()) if MARK in markdown else markdown


def table() -> str:
    """Returns the table, with links as they are from within `docs`."""
    (found,) = re.findall(
        r"^## I want to \.\.\.\n\n((?:\|.*\n)+)", README.read_text(), re.M
    )
    # Files beside `docs` are no pages of the site: they keep their names alone.
    within = re.sub(r"\[([^]]+)\]\((?!docs/)[^)]+\)", r"\1", found)
    return within.replace("](docs/", "](")
