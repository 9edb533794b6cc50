"""New figures, and files that are whole or not there."""

import os
import pathlib
from collections.abc import Callable
from typing import IO
from typing import TYPE_CHECKING
from typing import Any

from keras_moe.atomic_file import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(
    caller: str, size: tuple[float, float], **kwargs: Any
) -> "Figure":
    """Returns an empty figure that no `pyplot` knows of.

    Args:
        caller: name of the public function, for the error.
        size: width and height in inches.
        **kwargs: of `matplotlib.figure.Figure`.

    Raises:
        ImportError: if Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ImportError(
            f"`keras_moe.visualization.{caller}` needs Matplotlib. "
            "Install it with `pip install keras-moe[viz]`."
        ) from error
    return Figure(size, **kwargs)


def check_target(
    path: str | os.PathLike | None, suffix: str | None = None
) -> None:
    """Raises an error where a file could not be written; `None` passes.

    Args:
        path: of the file.
        suffix: what the name must end in, in either case; `None` for anything.

    Raises:
        ValueError: if the name has another suffix.
        FileNotFoundError: if there is no such folder.
    """
    if path is None:
        return
    path = pathlib.Path(path)
    if suffix is not None and path.suffix.lower() != suffix:
        raise ValueError(
            f"`path` must end in {suffix!r}. Received: path={str(path)!r}."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"`path` must be in a folder that exists. Received: "
            f"path={str(path)!r}."
        )


def save_png(figure: "Figure", path: str | os.PathLike, dpi: float) -> None:
    """Writes a picture, at once or not at all.

    Args:
        figure: a Matplotlib figure.
        path: of the file; what is there is replaced.
        dpi: pixels per inch.
    """
    write_atomically(
        path, lambda file: figure.savefig(file, format="png", dpi=dpi)
    )


def write_atomically(
    path: str | os.PathLike, write: Callable[[IO[bytes]], Any]
) -> None:
    """Writes a file, at once or not at all.

    Args:
        path: of the file; what is there is replaced.
        write: called with a binary file to write to.
    """
    with atomic_file(path) as partial, open(partial, "wb") as file:
        write(file)
