"""The content of one checkpoint, out of a model and into one."""

import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_moe.training._build_state import has_all_metrics
from keras_moe.training.checkpoints._array_file import read_arrays
from keras_moe.training.checkpoints._callback_states import get_callback_states
from keras_moe.training.checkpoints._callback_states import set_callback_states
from keras_moe.training.checkpoints._damaged_file_error import DamagedFileError
from keras_moe.training.checkpoints._model_state import assign_seeds
from keras_moe.training.checkpoints._model_state import assign_state
from keras_moe.training.checkpoints._model_state import read_seeds
from keras_moe.training.checkpoints._model_state import read_state
from keras_moe.training.checkpoints._position import Position
from keras_moe.training.nonfinite._nonfinite_count import first_nonfinite
from keras_moe.weights._layer_names import NAMING

_FORMAT_VERSION = 1
# What `load_into` takes from a header.
_HEADER = {
    "position": dict,
    "metrics_complete": bool,
    "seeds": dict,
    "callbacks": dict,
}


def capture(
    model: keras.Model,
    position: Position,
    metrics: Mapping[str, float] | None = None,
    optimizer: keras.optimizers.Optimizer | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Copies the content of a checkpoint from a model to the host.

    Args:
        model: built.
        position: where the training stands.
        metrics: name to value of metrics, kept in the header.
        optimizer: by default the one that the model was compiled with.
        callbacks: their states are kept, too.

    Returns:
        Arrays and header for `write_arrays`.

    Raises:
        ValueError: if the model is not built, a weight or a value of the
            optimizer is NaN or infinite, or JSON cannot hold the state of a
            callback.
    """
    state = read_state(model, optimizer)
    name = first_nonfinite(state)
    if name is not None:
        raise ValueError(
            "A checkpoint's values must be finite. Received: NaN or "
            f"infinity in {name!r} after step {position.step}."
        )
    header = {
        "format_version": _FORMAT_VERSION,
        "naming": NAMING,
        "position": position._asdict(),
        "metrics": {k: float(v) for k, v in (metrics or {}).items()},
        "metrics_complete": has_all_metrics(model),
        "seeds": read_seeds(model),
        "callbacks": get_callback_states(callbacks),
    }
    return state, header


def load_into(
    path: str | os.PathLike,
    model: keras.Model,
    weights_only: bool = False,
    optimizer: keras.optimizers.Optimizer | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Position:
    """Restores a model from a checkpoint's file.

    Args:
        path: path of the file.
        model: built. If it is not compiled, only its weights (with the states
            of routers and seeds) are restored.
        weights_only: restores only these in a compiled model, too: its
            optimizer and metrics stay as they are.
        optimizer: by default the one that the model was compiled with.
        callbacks: they get their states back, where the file has them.

    Returns:
        Where the training stood.

    Raises:
        ValueError: if the model is another one, or the file was written with
            another naming of weights. The model is left as it was.
        DamagedFileError: if the file is damaged.
        FileNotFoundError: if there is no file.

    Example:

    >>> from keras_moe.training import Checkpoints
    >>> from keras_moe.training import load_into
    >>> from keras_moe.training import Position
    >>> def make():
    ...     return keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> trained, served = make(), make()
    >>> trained.compile("adam", "mse")
    >>> checkpoints = Checkpoints(directory, asynchronous=False)
    >>> checkpoints.save(trained, Position(step=7))
    >>> load_into(checkpoints.latest, served).step
    7
    >>> x = np.ones([1, 3])
    >>> bool(np.all(trained.predict(x, verbose=0) == served(x)))
    True
    """
    state, header = read_arrays(path)
    if header.get("format_version") != _FORMAT_VERSION:
        raise DamagedFileError(
            f"{path} must be a checkpoint of format {_FORMAT_VERSION}. "
            f"Received: {header.get('format_version')!r}."
        )
    # The first naming was not noted down.
    naming = header.get("naming", 1)
    if naming != NAMING:
        raise ValueError(
            f"{path} was written with another naming of weights (version "
            f"{naming!r}; this version of keras_moe uses {NAMING}), so an "
            "array may have the name of a weight that is not its own. Nothing "
            "was restored. Restore it with the version of keras_moe that wrote "
            "it, and carry the weights over in a `.keras` file."
        )
    # Files of earlier versions have no states of callbacks.
    header = {"callbacks": {}, **header}
    position = _check_header(path, header)
    assign_state(
        model,
        state,
        weights_only=weights_only,
        metrics_complete=header["metrics_complete"],
        optimizer=optimizer,
    )
    assign_seeds(model, header["seeds"])
    set_callback_states(callbacks, header["callbacks"])
    return position


def _check_header(
    path: str | os.PathLike, header: Mapping[str, Any]
) -> Position:
    """Checks what is taken from a header before anything is assigned."""
    try:
        for name, kind in _HEADER.items():
            if not isinstance(header[name], kind):
                raise ValueError(
                    f"{name!r} must be a {kind.__name__}. Received: "
                    f"{header[name]!r:.100}."
                )
        for name, seed in header["seeds"].items():
            if type(seed) is not int:
                raise ValueError(
                    f"The seed of {name!r} must be an integer. Received: "
                    f"{seed!r:.100}."
                )
        return Position.from_dict(header["position"])
    except KeyError as error:
        raise DamagedFileError(
            f"{path} must say {error} in its header, as every checkpoint does. "
            f"Received: {sorted(header)}."
        ) from error
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged. {error}") from error
