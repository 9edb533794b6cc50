"""`keras-moe serve`: the embedded model server."""

import typer

from keras_moe import serving
from keras_moe.command._answers import errors_in_one_line


def serve(context: typer.Context) -> None:
    """Serve the versions of a model, over TensorFlow Serving's API.

    `keras-moe serve --help` lists the flags of the server.
    """
    with errors_in_one_line("Not served.", as_json=False):
        # Says which extra is missing, where one is.
        serving.Server  # noqa: B018
    from keras_moe.serving.server.__main__ import main

    main(context.args, prog="keras-moe serve")
