"""The subcommands of `keras-moe`."""

from typing import Annotated

import typer

from keras_moe.command._calibrate import calibrate
from keras_moe.command._convert import convert
from keras_moe.command._export import export
from keras_moe.command._inspect import inspect
from keras_moe.command._new import new
from keras_moe.command._plot import plot
from keras_moe.command._serve import serve
from keras_moe.version import __version__

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(new)
app.command()(convert)
app.command()(calibrate)
app.command()(export)
# Its flags are the server's own, `--help` among them.
app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(serve)
app.command()(inspect)
app.command()(plot)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def describe(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and end.",
        ),
    ] = False,
) -> None:
    """Sparse and early-exit models for Keras, from checkpoint to server."""
