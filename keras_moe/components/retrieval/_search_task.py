"""The function that a project gives to `IndexBuilder`."""

import dataclasses
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_moe.retrieval import TunableIndex


@dataclasses.dataclass(frozen=True)
class SearchTaskArgs:
    """The arguments of the project's `task_fn`.

    Attributes:
        encoder: the trained Keras model, whose queries will be served.
        example_files: patterns of the files of the query splits, in whatever
            store they are: TensorFlow reads them.
        custom_config: what the pipeline wants the function to know.

    Example:

    >>> args = keras_moe.components.SearchTaskArgs(
    ...     encoder=keras.Sequential([keras.layers.Dense(1)]),
    ...     example_files=["examples/Split-calibration/*"],
    ...     custom_config={"batch_size": 64},
    ... )  # as a test of a `task_fn` gives them
    >>> args.custom_config["batch_size"]
    64
    """

    encoder: keras.Model
    example_files: Sequence[str]
    custom_config: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class SearchTask:
    """The result of the project's `task_fn`: what to tune on, how to export.

    Attributes:
        queries: float `[n, dim]`: embeddings of real queries that had no part
            in training: half of them tune, the others certify.
        export: called with a local directory and the tuned index, a
            `keras_moe.retrieval.BlockIndex`:
            writes what is served, as `keras_moe.serving.export_search` does.

    Example:
    ```python
    def task_fn(args: keras_moe.components.SearchTaskArgs):
        def encode(texts):
            return {"embedding": args.encoder.encode_queries(read(texts))}

        def export(directory, index):
            keras_moe.serving.export_search(directory, encode, index)

        texts = read_queries(args.example_files)
        queries = encode(texts)["embedding"].numpy()
        return keras_moe.components.SearchTask(queries, export)
    ```
    """

    queries: np.ndarray
    export: Callable[[pathlib.Path, TunableIndex], None]
