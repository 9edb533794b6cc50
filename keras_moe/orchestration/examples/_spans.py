"""Spans of examples: what a pipeline learned from, then and now."""

import hashlib
import json
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TypeVar

from keras_moe.atomic_file import atomic_file
from keras_moe.orchestration.examples._records import verify_records
from keras_moe.orchestration.examples._records import write_records
from keras_moe.orchestration.examples._splits import DEFAULT_FRACTIONS
from keras_moe.orchestration.examples._splits import SPLITS
from keras_moe.orchestration.examples._splits import hash_position
from keras_moe.orchestration.examples._splits import split_of

EntryT = TypeVar("EntryT")

_MANIFEST = "manifest.json"
_FILE = "examples.tfrecord.gz"
_SPAN = "span-"
_FORMAT = 4  # raise it when the files' format changes


class Span(NamedTuple):
    """Examples that were prepared together, in splits.

    Example:
    >>> import pathlib
    >>> span = keras_moe.orchestration.Span(1, pathlib.Path("data/span-1"), {})
    >>> span.records("test").as_posix()
    'data/span-1/test/examples.tfrecord.gz'

    Attributes:
        number: 1, 2 and so on.
        directory: Where the splits are, a folder each.
        counts: The number of examples in each split.
    """

    number: int
    directory: pathlib.Path
    counts: Mapping[str, int]

    def __str__(self) -> str:
        """Says how many examples each split has."""
        sizes = ", ".join(f"{n:,} {name}" for name, n in self.counts.items())
        return f"Span {self.number}: {sizes}"

    def records(self, split: str) -> pathlib.Path:
        """Returns the file that holds a split.

        Args:
            split: One of `SPLITS`.
        """
        return self.directory / split / _FILE


def prepare_span(
    directory: pathlib.Path,
    sources: Sequence[pathlib.Path],
    read_entries: Callable[[], Mapping[str, EntryT]],
    to_example: Callable[[str, EntryT], Any],
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    max_entries: int | None = None,
    options: Any = None,
) -> Span:
    """Writes sources as a span of examples, unless they are one already.

    Sources that changed become the next span, whole; the spans before stay as
    they are. What was prepared before keeps its number. Files are verified each
    time.

    Example:

    >>> import pathlib
    >>> source = pathlib.Path(f"{directory}.txt")
    >>> source.write_text(" ".join(f"word-{i}" for i in range(80)))
    629
    >>> span = keras_moe.orchestration.prepare_span(
    ...     pathlib.Path(directory),
    ...     [source],
    ...     read_entries=lambda: {w: None for w in source.read_text().split()},
    ...     to_example=lambda word, _: keras_moe.orchestration.text_example(
    ...         word=word
    ...     ),
    ... )
    >>> span.number, sum(span.counts.values())
    (1, 80)

    Args:
        directory: Where the spans go, `span-1`, `span-2` and so on.
        sources: The files whose contents decide what the examples are.
        read_entries: Reads them: what tells an example from others, to what it
            is made of. Called only where examples are written.
        to_example: Makes a `tf.train.Example` of both.
        fractions: The share of each of `SPLITS`.
        max_entries: Keep only so many, a fixed sample; `None` for all.
        options: Plain values that decide, too, what the examples are.

    Raises:
        FileNotFoundError: If one of the sources is missing.
        ValueError: If a split would have no example, or a file that was written
            before is truncated or corrupt.
    """
    fingerprint = _digest(sources, [list(fractions), max_entries, options])
    # Writing a span without a manifest was interrupted: its number is free.
    spans = {
        int(path.parent.name.removeprefix(_SPAN)): path.parent
        for path in directory.glob(f"{_SPAN}*/{_MANIFEST}")
    }
    number = next(
        (
            number
            for number, path in sorted(spans.items())
            if _read_manifest(path).get("fingerprint") == fingerprint
        ),
        max(spans, default=0) + 1,
    )
    span = span_of(directory, number)
    # A file removed by hand is written anew; a damaged one is reported.
    complete = span.counts and all(span.records(s).is_file() for s in SPLITS)
    if not complete:
        entries = _sample(read_entries(), max_entries)
        counts = _write(span, entries, to_example, fractions)
        manifest = {"fingerprint": fingerprint, "counts": counts}
        with atomic_file(span.directory / _MANIFEST) as partial:
            partial.write_text(json.dumps(manifest, indent=2) + "\n")
        span = span._replace(counts=counts)
    for split, count in span.counts.items():
        verify_records(span.records(split), count)
    return span


def span_of(directory: pathlib.Path, number: int) -> Span:
    """Returns a span that was prepared before.

    Args:
        directory: As for `prepare_span`.
        number: Of the span.

    Example:

    >>> import pathlib
    >>> span = keras_moe.orchestration.span_of(pathlib.Path("data"), 2)
    >>> span.records("train").as_posix()
    'data/span-2/train/examples.tfrecord.gz'
    """
    folder = directory / f"{_SPAN}{number}"
    return Span(number, folder, _read_manifest(folder).get("counts", {}))


def _sample(
    entries: Mapping[str, EntryT], max_entries: int | None
) -> Mapping[str, EntryT]:
    if max_entries is None or max_entries >= len(entries):
        return entries
    # The salt makes the sample independent of the splits, so that each split
    # keeps its share.
    chosen = sorted(entries, key=lambda key: hash_position(key, "sample:"))
    return {key: entries[key] for key in chosen[:max_entries]}


def _write(
    span: Span,
    entries: Mapping[str, EntryT],
    to_example: Callable[[str, EntryT], Any],
    fractions: Sequence[float],
) -> dict[str, int]:
    members: dict[str, list[str]] = {split: [] for split in SPLITS}
    # Readers shuffle and sample as far as their buffers reach: in the order of
    # the alphabet, a batch would hold the entries of one letter.
    for key in sorted(entries, key=lambda key: hash_position(key, "order:")):
        members[split_of(key, fractions)].append(key)
    for split, keys in members.items():
        if not keys:
            raise ValueError(
                f"The split `{split}` would have no example: there must be "
                f"more entries. Received: {len(entries)}."
            )
    # Without a manifest while files change, an interrupted run starts over.
    (span.directory / _MANIFEST).unlink(missing_ok=True)
    return {
        split: write_records(
            span.records(split), (to_example(k, entries[k]) for k in keys)
        )
        for split, keys in members.items()
    }


def _digest(sources: Sequence[pathlib.Path], options: Any) -> str:
    digest = hashlib.sha256(json.dumps([_FORMAT, options]).encode())
    for path in sources:
        if not path.is_file():
            raise FileNotFoundError(f"The source {path} does not exist.")
        # The suffix may decide how a file is read.
        digest.update(f"{path.suffix}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _read_manifest(directory: pathlib.Path) -> dict[str, Any]:
    """Returns what a directory was written of; nothing if it was not."""
    try:
        return json.loads((directory / _MANIFEST).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
