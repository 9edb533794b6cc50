"""The subcommands of `keras-moe`."""

import typer

from keras_moe.command._convert import convert
from keras_moe.command._new import new

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(convert)
app.command()(new)


@app.callback()
def describe() -> None:
    """Sparse and early-exit models for Keras: from and to checkpoints."""
