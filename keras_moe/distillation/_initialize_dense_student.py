"""A student that starts with what its teacher knows."""

import logging
import re
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import keras
import numpy as np

from keras_moe.distillation._checks import check_configs
from keras_moe.distillation._checks import check_models
from keras_moe.distillation._teacher_blocks import choose_blocks
from keras_moe.keras_internals import flatten_layers
from keras_moe.keras_internals import stored_kernel
from keras_moe.layers import FeedForward
from keras_moe.layers import SparseMoE
from keras_moe.layers.moe._merge_experts import expert_shares
from keras_moe.validation import check_choice
from keras_moe.weights import Recipe
from keras_moe.weights import TransferReport
from keras_moe.weights import named_weights
from keras_moe.weights import transfer
from keras_moe.weights._layer_names import named_layers
from keras_moe.weights._merged_weights import merged_weights
from keras_moe.weights._named_weights import without_state

FEED_FORWARDS = ("fresh", "average", "weighted_average", "most_used")
# Fields of a config that shapes of weights do not show.
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
Origins: TypeAlias = dict[str, str | Recipe | None]

_logger = logging.getLogger(__name__)


def initialize_dense_student(
    teacher: keras.Model,
    student: keras.Model,
    feed_forward: str = "fresh",
    layers: Mapping[str, Sequence[int]] | None = None,
    *,
    cast: bool = False,
) -> TransferReport:
    """Gives a dense student every weight of its teacher but the experts'.

    Weights belong together when they have the same name
    (`keras_moe.weights.named_weights`); embeddings, attention, norms and the
    feed-forward networks of dense blocks are copied. A `SwitchTransformer` may
    have fewer blocks than its teacher: the student's are spread evenly over the
    teacher's, the first from the first and the last from the last.

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
        cast: whether weights may be rounded where the student's are floats of
            another kind than the teacher's.

    Returns:
        What became of each weight of the student: those made of experts are
        merged. What is unused is the teacher's alone: routers, experts, blocks
        that were left out.

    Raises:
        ValueError: if vocabularies differ, the teacher lacks a layer of the
            student or its weight has another shape or dtype, layers without a
            name of their own are not as many in both, a model is not built or
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
    check_configs(teacher, student)
    _check(teacher, student)
    _check_architectures(teacher, student)
    blocks = choose_blocks(teacher, student, layers)
    moved = _moved_blocks(teacher, student, blocks)
    _check_siblings(teacher, student, moved)
    origins = _origins(teacher, student, moved, feed_forward)
    source = merged_weights(teacher, flatten_layers(teacher))
    _check_finite(source, origins)
    report = transfer(
        source, student, origins.get, cast=cast, reuse=layers is not None
    )
    _logger.info("from the teacher's blocks %s\n%s", blocks, report)
    return report


def _moved_blocks(
    teacher: keras.Model,
    student: keras.Model,
    blocks: Mapping[str, Sequence[int]],
) -> dict[str, str]:
    """Returns names of the student's blocks to those of the teacher's."""
    ours = {id(layer): name for layer, name, _ in named_layers(student)}
    theirs = {id(layer): name for layer, name, _ in named_layers(teacher)}
    return {
        ours[id(block)]: theirs[id(getattr(teacher, stack).blocks[number - 1])]
        for stack, numbers in blocks.items()
        for block, number in zip(
            getattr(student, stack).blocks, numbers, strict=True
        )
    }


def _name_in_teacher(name: str, moved: Mapping[str, str]) -> str:
    parts = name.split("/")
    for depth in range(len(parts), 0, -1):
        block = moved.get("/".join(parts[:depth]))
        if block is not None:
            return "/".join([block, *parts[depth:]])
    return name


def _origins(
    teacher: keras.Model,
    student: keras.Model,
    moved: Mapping[str, str],
    feed_forward: str,
) -> Origins:
    """Says for each weight of the student where its value comes from."""
    weights = without_state(named_weights(student), student)
    origins: Origins = {n: _name_in_teacher(n, moved) for n in weights}
    known = {name: layer for layer, name, _ in named_layers(teacher)}
    names = {id(layer): name for name, layer in known.items()}
    for layer, name, _ in named_layers(student):
        if not isinstance(layer, FeedForward):
            continue
        theirs = _name_in_teacher(name, moved)
        block, slash, last = theirs.rpartition("/")
        sparse = last.replace("feed_forward", "sparse_moe")
        for site_name in (theirs, block + slash + sparse):
            site = known.get(site_name)
            if isinstance(site, SparseMoE):
                break
        else:
            continue
        shares = None
        if feed_forward != "fresh":
            shares = _shares(site, feed_forward)
        experts = names[id(site.experts)]
        for weight in weights:
            if weight.startswith(f"{name}/"):
                # Banks of experts are named as the layers of a network are.
                bank = experts + weight.removeprefix(name)
                origins[weight] = (
                    None if shares is None else _merged(bank, shares)
                )
    return origins


def _shares(site: SparseMoE, feed_forward: str) -> np.ndarray:
    try:
        return expert_shares(
            site.num_experts, feed_forward, site.router.expert_load.load()
        )
    except ValueError as error:
        raise ValueError(
            f"Experts cannot be merged with feed_forward={feed_forward!r}: "
            f"{error}"
        ) from error


def _merged(bank: str, shares: np.ndarray) -> Recipe:
    """Returns how a weight of all experts becomes one expert's."""
    # Biases are `[experts, 1, units]`, kernels `[experts, inputs, units]`.
    axes = 2 if bank.endswith("/bias") else 1

    def make(values: np.ndarray) -> np.ndarray:
        mean = np.tensordot(shares, values.astype("float32"), axes=1)
        return mean.reshape(values.shape[axes:])

    return Recipe((bank,), make=make, shape=lambda shape: shape[axes:])


def _check_siblings(
    teacher: keras.Model, student: keras.Model, moved: Mapping[str, str]
) -> None:
    """Refuses layers that only their order names, if their numbers differ."""
    theirs, ours = (
        Counter(
            re.sub(r"#\d+$", "", name)
            for layer, name, _ in named_layers(model)
            if layer.weights
        )
        for model in (teacher, student)
    )
    for name, count in ours.items():
        given = theirs[_name_in_teacher(name, moved)]
        if given and given != count:
            raise ValueError(
                "Layers without a name of their own are paired by their order, "
                "and must be as many in the teacher and the student; give them "
                f"names. Received: {given} layers {name!r} of the teacher, "
                f"{count} of the student."
            )


def _check_finite(source: Mapping[str, Any], origins: Origins) -> None:
    used: dict[str, None] = {}
    for origin in origins.values():
        if isinstance(origin, Recipe):
            used |= dict.fromkeys(origin.sources)
        elif origin is not None:
            used[origin] = None
    for name in used:
        if name in source and not np.isfinite(np.asarray(source[name])).all():
            raise ValueError(
                "The teacher's weights must be numbers. Received: NaN or "
                f"infinity in {name}."
            )


def _check_architectures(teacher: keras.Model, student: keras.Model) -> None:
    """Raises `ValueError` if weights of equal shape mean different things."""
    for field in _ARCHITECTURE:
        given = getattr(getattr(teacher, "config", None), field, None)
        wanted = getattr(getattr(student, "config", None), field, None)
        if given is not None and wanted is not None and given != wanted:
            raise ValueError(
                "Teacher and student must compute alike for weights to be "
                f"copied. Received: {field}={given!r} of the teacher, "
                f"{wanted!r} of the student."
            )


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
