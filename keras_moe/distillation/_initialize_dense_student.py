"""A student that starts with what its teacher knows."""

import numbers
import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_moe.distillation._checks import check_models
from keras_moe.distillation._dense_student_report import DenseStudentReport
from keras_moe.keras_internals import flatten_layers
from keras_moe.keras_internals import stored_kernel
from keras_moe.layers import FeedForward
from keras_moe.layers import SparseMoE
from keras_moe.validation import check_choice
from keras_moe.weights._merged_kernel import merged_kernel

FEED_FORWARDS = ("fresh", "average", "weighted_average", "most_used")
_STACKS = ("encoder", "decoder")
# What does not show in the shapes of weights.
_ARCHITECTURE = (
    "num_heads",
    "activation",
    "attention",
    "feature_map",
    "position_encoding",
    "num_relative_buckets",
    "max_relative_distance",
    "tie_embeddings",
)


def initialize_dense_student(
    teacher: keras.Model,
    student: keras.Model,
    feed_forward: str = "fresh",
    layers: Mapping[str, Sequence[int]] | None = None,
) -> DenseStudentReport:
    """Gives a dense student every weight of its teacher but the experts'.

    Weights belong together when their paths below the model do; embeddings,
    attention, norms and the feed-forward networks of dense blocks are copied.
    A `SwitchTransformer` may have fewer blocks than its teacher: the student's
    are spread evenly over the teacher's, the first from the first and the last
    from the last. Layers of other models are matched by name.

    Source: [Fedus et al., 2021](https://arxiv.org/abs/2101.03961), section
    4.2, where the networks that were sparse start afresh.

    Args:
        teacher: a built model with `SparseMoE` layers.
        student: a built, dense one of the same width.
        feed_forward: what a network starts with that is sparse in the
            teacher: `"fresh"`, as it is; `"average"` of the experts;
            `"weighted_average"` or the `"most_used"` expert, by the load since
            the teacher's metrics were reset.
        layers: for models with numbered blocks, `"encoder"` and `"decoder"` to
            the teacher's block for each of the student's, counted from 1.

    Returns:
        What became of each weight of the student.

    Raises:
        ValueError: if vocabularies differ, the teacher lacks a layer of the
            student or its weight has another shape, a model is not built or
            the student not dense, or an argument is out of its range. The
            student is then as it was.

    Example:

    >>> teacher = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> student = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> report = keras_moe.distillation.initialize_dense_student(
    ...     teacher, student
    ... )
    >>> len(report.copied), len(report.merged), len(report.fresh)
    (43, 0, 4)
    """
    check_choice(FEED_FORWARDS, feed_forward=feed_forward)
    check_models(teacher, student)
    _check(teacher, student)
    _check_architectures(teacher, student)
    source = _BlockMap(teacher, student, layers)
    dense = _merged_networks(teacher, student, source, feed_forward)
    given = _values(teacher)
    values: dict[int, np.ndarray] = {}
    report = DenseStudentReport(source.layers)
    missing = []
    for weight in student.weights:
        path = _relative(weight.path, student)
        site = next((site for site in dense if path.startswith(site)), None)
        if site is not None:
            network = dense[site]
            if network is None:
                report.fresh.append(weight)
                continue
            value = {_below(w.path, network): w for w in network.weights}.get(
                path.removeprefix(site)
            )
            report.merged.append(weight)
        else:
            value = given.get(source(path))
            report.copied.append(weight)
        if value is None or tuple(value.shape) != tuple(weight.shape):
            found = None if value is None else tuple(value.shape)
            missing.append(f"{path} {tuple(weight.shape)}: {found}")
            continue
        values[id(weight)] = ops.convert_to_numpy(value)
        if not np.isfinite(np.asarray(value, "float32")).all():
            raise ValueError(
                "The teacher's weights must be numbers. Received: NaN or "
                f"infinity in {source(path)}."
            )
    if missing:
        raise ValueError(
            "The teacher must have each layer of the student, with weights of "
            "the same shapes. Received (student: teacher): "
            f"{'; '.join(missing)}."
        )
    for weight in student.weights:
        if id(weight) in values:
            weight.assign(values[id(weight)])
    return report


class _BlockMap:
    """Paths of the student's weights to those of the teacher's."""

    def __init__(
        self,
        teacher: Any,
        student: Any,
        layers: Mapping[str, Sequence[int]] | None,
    ):
        self.layers: dict[str, tuple[int, ...]] = {}
        if layers is not None and not (
            isinstance(layers, Mapping)
            and all(_are_numbers(chosen) for chosen in layers.values())
        ):
            raise ValueError(
                "`layers` must be a dictionary of stacks to numbers of "
                f"layers. Received: layers={layers!r}."
            )
        for stack in _STACKS:
            if not hasattr(getattr(student, stack, None), "blocks"):
                continue
            ours = len(getattr(student, stack).blocks)
            theirs = len(getattr(getattr(teacher, stack, None), "blocks", ()))
            chosen = (layers or {}).get(stack)
            if chosen is None and ours > theirs:
                raise ValueError(
                    "The teacher must have a layer for each of the student's. "
                    f"Received: {theirs} {stack} layers of the teacher, "
                    f"{ours} of the student. `layers` may use one twice."
                )
            if chosen is None:
                chosen = spread(ours, theirs)
            if len(chosen) != ours or not all(
                1 <= layer <= theirs for layer in chosen
            ):
                raise ValueError(
                    f"The student's {ours} {stack} layers need one of the "
                    f"teacher's, from 1 to {theirs}, each. Received: "
                    f"{list(chosen)}."
                )
            self.layers[stack] = tuple(chosen)
        unknown = sorted(set(layers or {}) - set(self.layers))
        if unknown:
            raise ValueError(
                f"`layers` must be of {sorted(self.layers)}. Received: "
                f"{unknown}."
            )

    def __call__(self, path: str) -> str:
        found = re.match(r"(encoder|decoder)/block_(\d+)/", path)
        if found is None or found[1] not in self.layers:
            return path
        block = self.layers[found[1]][int(found[2])] - 1
        return f"{found[1]}/block_{block}/{path[found.end() :]}"


def _are_numbers(values: Any) -> bool:
    return isinstance(values, Sequence) and all(
        isinstance(value, numbers.Integral) for value in values
    )


def spread(number: int, layers: int) -> tuple[int, ...]:
    """Returns `number` layers, counted from 1, spread evenly over `layers`.

    The first and the last are among them; of more than there are, none.

    Example: `spread(3, 8)` is `(1, 4, 8)`.
    """
    if number > layers:
        return ()
    if number == 1:
        return (layers,)
    return tuple(
        1 + (index * (layers - 1)) // (number - 1) for index in range(number)
    )


def _merged_networks(
    teacher: keras.Model,
    student: keras.Model,
    source: _BlockMap,
    feed_forward: str,
) -> dict[str, FeedForward | None]:
    """Returns the student's networks that are sparse in the teacher.

    Path to what it starts with; `None` is a fresh start.
    """
    sparse = {
        _relative(layer.path, teacher): layer
        for layer in flatten_layers(teacher)
        if isinstance(layer, SparseMoE)
    }
    merged: dict[str, FeedForward | None] = {}
    for layer in flatten_layers(student):
        if not isinstance(layer, FeedForward):
            continue
        path = _relative(layer.path, student)
        theirs = source(path + "/").rstrip("/")
        block, slash, name = theirs.rpartition("/")
        site = sparse.get(theirs) or sparse.get(
            block + slash + name.replace("feed_forward", "sparse_moe")
        )
        if site is not None:
            merged[path + "/"] = (
                None if feed_forward == "fresh" else _merge(site, feed_forward)
            )
    return merged


def _check_architectures(teacher: Any, student: Any) -> None:
    """Raises `ValueError` where weights of one shape mean something else."""
    for field in _ARCHITECTURE:
        given = getattr(getattr(teacher, "config", None), field, None)
        wanted = getattr(getattr(student, "config", None), field, None)
        if given is not None and wanted is not None and given != wanted:
            raise ValueError(
                "Teacher and student must compute alike for weights to be "
                f"copied. Received: {field}={given!r} of the teacher, "
                f"{wanted!r} of the student."
            )


def _values(teacher: keras.Model) -> dict[str, Any]:
    """Returns what the teacher computes with, by path."""
    values: dict[str, Any] = {
        _relative(weight.path, teacher): weight for weight in teacher.weights
    }
    for layer in flatten_layers(teacher):
        if getattr(layer, "lora_enabled", False):
            path = _relative(stored_kernel(layer).path, teacher)
            values[path] = merged_kernel(layer)
    return values


def _merge(site: SparseMoE, feed_forward: str) -> FeedForward:
    try:
        return site.to_feed_forward(feed_forward)
    except ValueError as error:
        raise ValueError(
            f"Experts cannot be merged with feed_forward={feed_forward!r}: "
            f"{error}"
        ) from error


def _check(teacher: keras.Model, student: keras.Model) -> None:
    for role, model in (("teacher", teacher), ("student", student)):
        if not model.built:
            raise ValueError(
                f"`{role}` must be built: call it on data first. Received: "
                f"{model.name}."
            )
        for layer in flatten_layers(model):
            if layer.quantization_mode is not None:
                raise ValueError(
                    f"`{role}` must not be quantised; quantise the student "
                    f"when it is trained. Received: {layer.path} in "
                    f"{layer.quantization_mode}."
                )
            if getattr(layer, "lora_enabled", False) and (
                model is student or stored_kernel(layer) is None
            ):
                raise ValueError(
                    "`student` must have no LoRA weights yet, and the teacher "
                    f"none of embeddings. Received: {layer.path}."
                )
    for layer in flatten_layers(student):
        if isinstance(layer, SparseMoE):
            raise ValueError(
                f"`student` must be dense. Received: {layer.path} with "
                f"{layer.num_experts} experts."
            )


def _relative(path: str, model: keras.Model) -> str:
    return path.removeprefix(f"{model.name}/")


def _below(path: str, layer: keras.layers.Layer) -> str:
    return path.removeprefix(layer.path).lstrip("/")
