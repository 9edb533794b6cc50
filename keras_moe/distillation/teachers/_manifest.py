"""What a directory of a teacher's logits says that it holds."""

import dataclasses
import json
import pathlib

import numpy as np

from keras_moe.distillation.teachers._records import KEPT
from keras_moe.distillation.teachers._records import LABELS
from keras_moe.distillation.teachers._records import Fields

MANIFEST = "teacher_logits.json"


@dataclasses.dataclass(frozen=True)
class TeacherLogits:
    """The contents of a directory that `write_teacher_logits` wrote.

    Attributes:
        k: tokens kept of each distribution.
        vocabulary_size: tokens of the teacher's distribution.
        num_examples: examples.
        num_tokens: positions without padding.
        num_bytes: size of the shards on disk.
        teacher: fingerprint of the teacher, `None` if it has no weights.
        shards: names of the files.
        fields: from the name of each field of an example to the dtype and
            shape in which it is kept.

    Example:

    >>> written = keras_moe.distillation.TeacherLogits(
    ...     k=8,
    ...     vocabulary_size=42,
    ...     num_examples=10,
    ...     num_tokens=90,
    ...     num_bytes=3600,
    ...     teacher=None,
    ...     shards=("shard-0",),
    ...     fields={},
    ... )  # as `write_teacher_logits` returns one
    >>> written.num_bytes / written.num_tokens
    40.0
    """

    k: int
    vocabulary_size: int
    num_examples: int
    num_tokens: int
    num_bytes: int
    teacher: str | None
    shards: tuple[str, ...]
    fields: Fields


def read_manifest(path: pathlib.Path) -> TeacherLogits:
    """Reads and checks a manifest.

    Args:
        path: of the file.

    Raises:
        ValueError: if it is not one that `write_teacher_logits` wrote.
    """
    try:
        content = json.loads(path.read_text())
        content["shards"] = tuple(content["shards"])
        content["fields"] = {
            name: (dtype, tuple(rows))
            for name, (dtype, rows) in content["fields"].items()
        }
        written = TeacherLogits(**content)
        _check_manifest(written)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be what `write_teacher_logits` wrote: {error}"
        ) from error
    return written


def _check_manifest(written: TeacherLogits) -> None:
    """Refuses shards elsewhere or twice, and dtypes that are not kept."""
    shards = written.shards
    if len(set(shards)) < len(shards) or any(
        name != pathlib.PurePath(name).name or name == ".." for name in shards
    ):
        raise ValueError(
            "`shards` must be names of files in the folder, each once. "
            f"Received: {list(shards)}."
        )
    if missing := {LABELS, *KEPT} - written.fields.keys():
        raise ValueError(f"`fields` must hold {sorted(missing)}.")
    for name, (dtype, _) in written.fields.items():
        kinds = {KEPT[0]: "iu", KEPT[1]: "f"}.get(name, "biuf")
        if np.dtype(dtype).kind not in kinds:
            raise ValueError(
                f"`fields` must hold numbers for {name!r}. Received: {dtype}."
            )
