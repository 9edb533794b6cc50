"""Dictionary -> split TFRecord files, written once and verified each time."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable

from pipelines.g2p.data.dictionary import Dictionary
from pipelines.g2p.data.dictionary import read_dictionary
from pipelines.g2p.data.records import verify_records
from pipelines.g2p.data.records import write_records
from pipelines.g2p.data.splits import DEFAULT_FRACTIONS
from pipelines.g2p.data.splits import SPLITS
from pipelines.g2p.data.splits import position
from pipelines.g2p.data.splits import split_of

_MANIFEST = "manifest.json"
_FILE = "words.tfrecord.gz"
_SPAN = "span-"
_FORMAT = 3  # raise it when the files' format changes


def prepare(
    source: pathlib.Path,
    directory: pathlib.Path,
    keep_stress: bool = False,
    max_words: int | None = None,
    fractions: tuple[float, ...] = DEFAULT_FRACTIONS,
) -> dict[str, int]:
    """Writes the splits of a dictionary, unless they are there already.

    Args:
        source: The dictionary, see `read_dictionary`.
        directory: Where `train/`, `validation/`, `calibration/` and `test/`
            go, with a manifest that says what they were made of.
        keep_stress: `bool`. Whether to keep stress digits.
        max_words: `int` or `None`. Keep only so many words, a fixed sample.
        fractions: The share of each split.

    Returns:
        The number of words in each split.
    """
    fingerprint = _digest(source, keep_stress, max_words, fractions)
    counts = _read_manifest(directory, fingerprint)
    if counts is None:
        words = _sample(read_dictionary(source, keep_stress), max_words)
        counts = _write(words, directory, fractions)
        _write_manifest(directory, fingerprint, counts)
    for split, count in counts.items():
        verify_records(records_path(directory, split), count)
    return counts


def prepare_span(
    source: pathlib.Path,
    directory: pathlib.Path,
    keep_stress: bool = False,
    max_words: int | None = None,
    fractions: tuple[float, ...] = DEFAULT_FRACTIONS,
) -> tuple[int, dict[str, int]]:
    """Prepares a dictionary as a span of its own, unless it is one already.

    A dictionary that has grown becomes the next span, whole; the spans before
    stay as they are. One that was prepared before keeps its number.

    Args:
        source: As for `prepare`.
        directory: Where the spans go, `span-1`, `span-2` and so on.
        keep_stress: As for `prepare`.
        max_words: As for `prepare`.
        fractions: As for `prepare`.

    Returns:
        The number of the span, and the number of words in each split.
    """
    options = (keep_stress, max_words, fractions)
    fingerprint = _digest(source, *options)
    # Writing a span without a manifest was interrupted: its number is free.
    spans = {
        int(path.parent.name.removeprefix(_SPAN)): path.parent
        for path in directory.glob(f"{_SPAN}*/{_MANIFEST}")
    }
    span = next(
        (
            number
            for number, path in sorted(spans.items())
            if _written_of(path) == fingerprint
        ),
        max(spans, default=0) + 1,
    )
    return span, prepare(source, span_directory(directory, span), *options)


def span_directory(directory: pathlib.Path, span: int) -> pathlib.Path:
    """Returns where a span is."""
    return directory / f"{_SPAN}{span}"


def records_path(directory: pathlib.Path, split: str) -> pathlib.Path:
    """Returns the file that holds a split."""
    return directory / split / _FILE


def _sample(words: Dictionary, max_words: int | None) -> Dictionary:
    if max_words is None or max_words >= len(words):
        return words
    # The salt makes the sample independent of the splits, so that each split
    # keeps its share.
    chosen = sorted(words, key=lambda word: position(word, salt="sample:"))
    return {word: words[word] for word in sorted(chosen[:max_words])}


def _write(
    words: Dictionary, directory: pathlib.Path, fractions: Iterable[float]
) -> dict[str, int]:
    shares = tuple(fractions)
    members: dict[str, list[str]] = {split: [] for split in SPLITS}
    # Readers shuffle and sample as far as their buffers reach: in the order of
    # the alphabet, a batch would hold the words of one letter.
    for word in sorted(words, key=lambda word: position(word, salt="order:")):
        members[split_of(word, shares)].append(word)
    for split, names in members.items():
        if not names:
            raise ValueError(
                f"The split `{split}` would have no word: the dictionary must "
                f"be larger. Received: {len(words)} words."
            )
    # Without a manifest while files change, an interrupted run starts over.
    (directory / _MANIFEST).unlink(missing_ok=True)
    return {
        split: write_records(
            records_path(directory, split), ((n, words[n]) for n in names)
        )
        for split, names in members.items()
    }


def _digest(source: pathlib.Path, *options: object) -> str:
    if not source.is_file():
        raise FileNotFoundError(f"The dictionary {source} does not exist.")
    digest = hashlib.sha256(source.read_bytes())
    # The suffix decides how a dictionary is read.
    digest.update(json.dumps([_FORMAT, source.suffix, *options]).encode())
    return digest.hexdigest()


def _written_of(directory: pathlib.Path) -> str | None:
    """Returns the fingerprint of what a directory was written of."""
    try:
        manifest = json.loads((directory / _MANIFEST).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return manifest.get("fingerprint")


def _read_manifest(
    directory: pathlib.Path, fingerprint: str
) -> dict[str, int] | None:
    """Returns the counts if the files were made of this input."""
    try:
        manifest = json.loads((directory / _MANIFEST).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if manifest.get("fingerprint") != fingerprint:
        return None
    counts = manifest["counts"]
    # A file removed by hand is written anew; a damaged one is reported.
    complete = all(records_path(directory, s).is_file() for s in counts)
    return counts if complete else None


def _write_manifest(
    directory: pathlib.Path, fingerprint: str, counts: dict[str, int]
) -> None:
    manifest = {"fingerprint": fingerprint, "counts": counts}
    temporary = directory / f".{_MANIFEST}.partial"
    temporary.write_text(json.dumps(manifest, indent=2) + "\n")
    os.replace(temporary, directory / _MANIFEST)
