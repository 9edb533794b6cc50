"""How subcommands answer: tables or JSON, and errors in one line."""

import contextlib
import json
import textwrap
import zipfile
from collections.abc import Iterator
from typing import Annotated
from typing import Any

import tensorflow as tf
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Answer with JSON.")]

_EXPECTED = (
    *(ValueError, TypeError, OSError, ImportError),
    *(tf.errors.OpError, zipfile.BadZipFile),
)


@contextlib.contextmanager
def errors_in_one_line(headline: str, as_json: bool) -> Iterator[Console]:
    """Ends a subcommand with the exit code 1 where what it was given is wrong.

    Args:
        headline: what was not done.
        as_json: whether to say why as JSON, on the standard output.

    Yields:
        The console of the standard error, for progress.

    Raises:
        typer.Exit: if the block raises an error.
    """
    console = Console(stderr=True)
    try:
        yield console
    except _EXPECTED as error:
        # TensorFlow's would name a place in its graph, too.
        said = getattr(error, "message", None) or str(error)
        said = _printable(" ".join(str(said).split()))
        if as_json:
            typer.echo(json.dumps({"error": said}))
        else:
            console.print(f"[red]{headline}[/]", end=" ")
            console.print(said, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def show(facts: dict[str, Any], as_json: bool) -> None:
    """Prints facts: a table with a row for each, or a JSON object.

    Args:
        facts: plain values, lists and dictionaries of them, by name.
        as_json: whether to print JSON.
    """
    if as_json:
        typer.echo(json.dumps(facts))
        return
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        # Square brackets of shapes are no markup.
        table.add_row(name.replace("_", " "), Text(in_words(value)))
    Console().print(table)


def in_words(value: Any) -> str:
    """Returns a plain value as people read it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return "\n".join(_line(name, each) for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value)) or "none"
    return _printable(str(value))


def _line(name: str, value: Any) -> str:
    name = _printable(name)
    if not isinstance(value, dict):
        return f"{name}: {in_words(value)}"
    if any(isinstance(each, dict) for each in value.values()):
        return f"{name}\n{textwrap.indent(in_words(value), '  ')}"
    return f"{name}: " + ", ".join(
        f"{_printable(n)} {in_words(v)}" for n, v in value.items()
    )


def _printable(text: str) -> str:
    """Escapes what a file could do to the terminal that shows its words."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )
