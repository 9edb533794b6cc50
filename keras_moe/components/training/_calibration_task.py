"""The function that a project gives to a calibrator."""

import dataclasses
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_moe.calibration import Certificate


@dataclasses.dataclass(frozen=True)
class CalibrationTaskArgs:
    """The arguments of the project's `task_fn`.

    Attributes:
        models: the trained models, as they will be served: of `ExitCalibrator`
            the student alone; of `CascadeCalibrator` the stages, from the
            cheapest on.
        model_folders: of the SavedModels of these, in whatever store they are:
            what lies beside a graph goes no further by itself.
        example_files: patterns of the files of the splits, in whatever store
            they are: TensorFlow reads them.
        transform_graph_path: directory of the TFX Transform's output, likewise,
            or `None`.
        max_length: greatest number of tokens of an answer.
        custom_config: what the pipeline wants the function to know.

    Example:

    >>> args = keras_moe.components.CalibrationTaskArgs(
    ...     models=(keras.Sequential([keras.layers.Dense(1)]),),
    ...     model_folders=("student/Format-Serving",),
    ...     example_files=["examples/Split-calibration/*"],
    ...     transform_graph_path=None,
    ...     max_length=32,
    ...     custom_config={"batch_size": 64},
    ... )  # as a test of a `task_fn` gives them
    >>> (student,) = args.models
    """

    models: tuple[keras.Model, ...]
    model_folders: tuple[str, ...]
    example_files: Sequence[str]
    transform_graph_path: str | None
    max_length: int
    custom_config: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class CalibrationTask:
    """The result of the project's `task_fn`: what to certify, and how.

    `CascadeCalibrator` calls the function twice: with the examples that fit
    the rule, and with those that certify the threshold.

    Attributes:
        inputs: of the models, the examples: int `(n, source_length)`, padded,
            for models that generate.
        loss: how wrong answers are, in [0, 1], `(n,)`. Of `ExitCalibrator` a
            function of the early and the full answers, see
            `keras_moe.calibration.calibrate_exits`; of `CascadeCalibrator` of
            the answers and `labels`, see
            `keras_moe.calibration.DeferralRule.fit`, and `None` for whether
            the greatest output is not the label's.
        export: called with a local directory, what was certified (the
            `keras_moe.generation.EarlyExitPolicy`, or the
            `keras_moe.models.Cascade`) and the certificate: writes the model,
            as `keras_moe.serving.export` does.
        labels: the right answers, a row for each of `inputs`; `None` for
            `ExitCalibrator`, which compares the student with itself.

    Example:
    ```python
    def task_fn(args: keras_moe.components.CalibrationTaskArgs):
        (student,) = args.models

        def export(directory, policy, certificate):
            keras_moe.serving.export(
                student,
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
        return keras_moe.components.CalibrationTask(token_ids, loss, export)
    ```
    """

    inputs: Any
    loss: Callable[[Any, Any], Any] | None
    export: Callable[[pathlib.Path, Any, Certificate], None]
    labels: Any = None
