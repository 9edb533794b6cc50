"""The subcommands of `keras-moe`."""

import typer

from keras_moe.command._convert import convert

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(convert)


@app.callback()
def describe() -> None:
    """Sparse and early-exit models for Keras: from and to checkpoints."""
