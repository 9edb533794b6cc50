"""The command `keras-moe`."""

import sys


def main() -> None:
    """Runs `keras-moe`; says what to install where that is missing."""
    try:
        from keras_moe.command._app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(
            f"`keras-moe` needs {error.name}. Install it with "
            "`pip install keras-moe[cli]`."
        )
    app()
