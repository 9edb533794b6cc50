"""The function that a project gives to `ExitCalibrator`."""

import dataclasses
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_moe.calibration import Certificate
from keras_moe.generation import EarlyExitPolicy


@dataclasses.dataclass(frozen=True)
class ExitTaskArgs:
    """The arguments of the project's `task_fn`.

    Attributes:
        student: the trained model, as it will be served.
        example_files: patterns of the files of the calibration splits, in
            whatever store they are: TensorFlow reads them.
        transform_graph_path: directory of the TFX Transform's output, likewise,
            or `None`.
        max_length: greatest number of tokens of an answer.
        custom_config: what the pipeline wants the function to know.
    """

    student: keras.Model
    example_files: Sequence[str]
    transform_graph_path: str | None
    max_length: int
    custom_config: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ExitTask:
    """The result of the project's `task_fn`: what to certify, and how.

    Attributes:
        token_ids: int `(n, source_length)`, padded: the calibration examples.
        loss: see `keras_moe.calibration.calibrate_exits`.
        export: called with a local directory, the policy and the certificate:
            writes the certified model, as `keras_moe.serving.export` does.

    Example:
    ```python
    def task_fn(args: keras_moe.components.ExitTaskArgs):
        def export(directory, policy, certificate):
            keras_moe.serving.export(
                args.student,
                directory,
                tokenize,
                detokenize,
                max_length=args.max_length,
                early_exit=policy,
                certificate=certificate,
            )

        def loss(early, full):
            return (early != full).any(axis=1)

        token_ids = read_token_ids(args.example_files)
        return keras_moe.components.ExitTask(token_ids, loss, export)
    ```
    """

    token_ids: np.ndarray
    loss: Callable[[np.ndarray, np.ndarray], np.ndarray]
    export: Callable[[pathlib.Path, EarlyExitPolicy, Certificate], None]
