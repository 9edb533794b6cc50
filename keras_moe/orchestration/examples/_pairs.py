"""Pairs of texts in a CSV file: read strictly, split, written as examples."""

import csv
import io
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from keras_moe.orchestration.examples._records import text_example
from keras_moe.orchestration.examples._spans import Span
from keras_moe.orchestration.examples._spans import prepare_span
from keras_moe.orchestration.examples._splits import DEFAULT_FRACTIONS

SOURCE, TARGET = "source", "target"
_BYTE_ORDER_MARK = "\ufeff"


class Pairs(NamedTuple):
    """What a file of pairs holds.

    Example:
    >>> pairs = keras_moe.orchestration.Pairs({"one": "1"}, ())
    >>> pairs.targets["one"]
    '1'

    Attributes:
        targets: The target of each source, in the order of the file.
        notes: A sentence for each thing in the file that was passed over.
    """

    targets: Mapping[str, str]
    notes: Sequence[str]


def read_pairs(path: pathlib.Path, unique_targets: bool = False) -> Pairs:
    r"""Reads a CSV file with the columns `source` and `target`.

    Other columns, a byte-order mark, white space around a text and rows that
    come again are passed over; quotes around a cell are no part of it.

    Example:
    >>> import pathlib
    >>> path = pathlib.Path(directory)
    >>> _ = path.write_text("source,target\n12,twelve\n")
    >>> keras_moe.orchestration.read_pairs(path).targets
    {'12': 'twelve'}

    Args:
        path: The file, in UTF-8.
        unique_targets: Whether a target must stand in one row alone, as what
            is searched must.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file; the message names the line.
    """
    text, notes = _read(path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        source, target = _columns(path, next(reader, []))
        targets = _targets(path, reader, source, target, unique_targets, notes)
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: the quotes of a cell must be "
            f"closed, and doubled within it: {error}."
        ) from error
    quoted = sum('"' in line for line in text.split("\n"))
    if quoted:
        notes.append(
            f"{quoted} lines have quoted cells, whose quotes are not learned."
        )
    return Pairs(targets, notes)


def prepare_pairs(
    path: pathlib.Path,
    directory: pathlib.Path,
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    unique_targets: bool = False,
    check: Callable[[Mapping[str, str]], None] | None = None,
) -> Span:
    r"""Prepares a file of pairs as a span of examples, see `prepare_span`.

    Example:
    >>> import pathlib
    >>> path = pathlib.Path(directory).with_suffix(".csv")
    >>> rows = "".join(f"{n},{n:b}\n" for n in range(200))
    >>> _ = path.write_text("source,target\n" + rows)
    >>> span = keras_moe.orchestration.prepare_pairs(
    ...     path, pathlib.Path(directory)
    ... )
    >>> sum(span.counts.values())
    200

    Args:
        path: As for `read_pairs`.
        directory: Where the spans go.
        fractions: The share of each of `SPLITS`.
        unique_targets: As for `read_pairs`.
        check: Called with the targets before anything is written.
    """

    def entries() -> Mapping[str, str]:
        targets = read_pairs(path, unique_targets).targets
        if check is not None:
            check(targets)
        return targets

    return prepare_span(
        directory,
        [path],
        entries,
        lambda source, target: text_example(**{SOURCE: source, TARGET: target}),
        fractions,
    )


def _read(path: pathlib.Path) -> tuple[str, list[str]]:
    """Returns the text of a file, and whether a mark was cut off."""
    if not path.is_file():
        raise FileNotFoundError(f"The CSV file {path} does not exist.")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: the file must be in UTF-8. Received: the "
            f"byte 0x{raw[error.start]:02x}, of another encoding."
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(
            f"{path}, line {line}: the file must be text. Received: a zero "
            "byte, as other encodings have."
        )
    if text.startswith(_BYTE_ORDER_MARK):
        return text[1:], ["The byte-order mark is left out."]
    return text, []


def _columns(path: pathlib.Path, header: list[str]) -> tuple[int, int]:
    names = [name.strip() for name in header]
    if names.count(SOURCE) != 1 or names.count(TARGET) != 1:
        raise ValueError(
            f"{path}, line 1: the header must name the columns `{SOURCE}` and "
            f"`{TARGET}` once. Received: {','.join(header) or 'nothing'}."
        )
    return names.index(SOURCE), names.index(TARGET)


def _targets(
    path: pathlib.Path,
    reader: Any,
    source: int,
    target: int,
    unique_targets: bool,
    notes: list[str],
) -> dict[str, str]:
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    first: dict[str, int] = {}
    again, before = 0, reader.line_num
    for row in reader:
        line, before = before + 1, reader.line_num
        place = f"{path}, line {line}"
        if reader.line_num != line:
            raise ValueError(f"{place}: a cell must not have a line break.")
        if not row:
            continue
        cells = [
            row[i].strip() if i < len(row) else "" for i in (source, target)
        ]
        for name, cell in zip((SOURCE, TARGET), cells, strict=True):
            if not cell:
                raise ValueError(f"{place}: the cell `{name}` is empty.")
        question, answer = cells
        if question in found:
            if found[question] != answer:
                raise ValueError(
                    f"{place}: a source must have one target. Received: "
                    f"{question!r} with {answer!r} here, and with "
                    f"{found[question]!r} in line {lines[question]}."
                )
            again += 1
            continue
        if unique_targets and answer in first:
            raise ValueError(
                f"{place}: a target that is searched must stand in one row. "
                f"Received: {answer!r}, which stands in line {first[answer]}."
            )
        found[question] = answer
        lines[question] = line
        first.setdefault(answer, line)
    if again:
        notes.append(f"{again} rows come again, and count once.")
    return found
