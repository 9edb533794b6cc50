"""Reads WordNet: its four data files, in the format of `wndb(5WN)`."""

import dataclasses
import pathlib
import re
from collections.abc import Iterator

# A data file and the letter of its part of speech.
FILES = {"data.noun": "n", "data.verb": "v", "data.adj": "a", "data.adv": "r"}

# Where `dev/wordnet.sh` unpacks Debian's package, and where the system does.
_CHECKOUT = pathlib.Path(__file__).parents[3]
_FOLDERS = (
    _CHECKOUT / "build" / "wordnet" / "usr" / "share" / "wordnet",
    pathlib.Path("/usr/share/wordnet"),
)

# Pointers that lead to a broader word: hypernym, hypernym of a name, and what
# an adjective is similar to.
_BROADER = frozenset({"@", "@i", "&"})
# Lines of the licence begin with two spaces.
_LICENCE = b"  "
_ENTRY = re.compile(r"\d{8} \d{2} [nvasr] [0-9a-f]{2} ")
# Where an adjective stands, as in `galore(ip)`.
_MARKER = re.compile(r"\((?:a|p|ip)\)$")
_QUOTED = re.compile(r'"([^"]+)"')


@dataclasses.dataclass(frozen=True)
class Synset:
    """Words of one meaning.

    Attributes:
        identifier: such as `"dog.n.02084071"`: the first word, for people, and
            what no other synset of this version of WordNet has.
        lemmas: the words, the commonest first.
        gloss: what they mean, without examples.
        examples: sentences in which they stand.
        broader: words of the synsets above: hypernyms, or, of an adjective,
            those that it is similar to.
    """

    identifier: str
    lemmas: tuple[str, ...]
    gloss: str
    examples: tuple[str, ...]
    broader: tuple[str, ...]

    @property
    def document(self) -> str:
        """The text that is searched: words and broader words, no gloss."""
        return ", ".join((*self.lemmas, *self.broader))


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A line of a data file; `above` are keys of other entries."""

    key: str
    lemmas: tuple[str, ...]
    gloss: str
    examples: tuple[str, ...]
    above: tuple[str, ...]
    place: str


def find_wordnet() -> pathlib.Path:
    """Finds the folder of WordNet's data files.

    Raises:
        FileNotFoundError: if there is none.
    """
    for folder in _FOLDERS:
        if all((folder / name).is_file() for name in FILES):
            return folder
    raise FileNotFoundError(
        "WordNet is not here: run `make wordnet`, install Debian's package "
        "`wordnet-base`, or name a folder with --wordnet. Looked in "
        f"{' and '.join(map(str, _FOLDERS))}."
    )


def read_wordnet(folder: pathlib.Path) -> list[Synset]:
    """Reads all synsets: nouns, verbs, adjectives, adverbs.

    A line begins with its own position in the file, and names the positions of
    others: a file that lost a part, or was edited, is found out.

    Args:
        folder: With `data.noun`, `data.verb`, `data.adj` and `data.adv` of
            WordNet 3.0 or 3.1.

    Raises:
        FileNotFoundError: if one of the files is missing.
        ValueError: if one is no data file of WordNet, or not whole; the message
            names file and line.
    """
    entries: dict[str, _Entry] = {}
    for name, letter in FILES.items():
        for entry in _read_file(folder / name, letter):
            entries[entry.key] = entry
    return [
        Synset(
            f"{entry.lemmas[0]}.{entry.key}".replace(" ", "_"),
            entry.lemmas,
            entry.gloss,
            entry.examples,
            _broader(entry, entries),
        )
        for entry in entries.values()
    ]


def _broader(entry: _Entry, entries: dict[str, _Entry]) -> tuple[str, ...]:
    lemmas: dict[str, None] = {}
    for key in entry.above:
        if key not in entries:
            raise ValueError(
                f"{entry.place}: it points to the synset {key}, which "
                "no file holds: a file is truncated, or of another version of "
                "WordNet."
            )
        lemmas |= dict.fromkeys(entries[key].lemmas)
    return tuple(lemma for lemma in lemmas if lemma not in entry.lemmas)


def _read_file(path: pathlib.Path, letter: str) -> Iterator[_Entry]:
    if not path.is_file():
        raise FileNotFoundError(f"WordNet's file {path} does not exist.")
    position, found = 0, False
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path}, line {number}"
            if not line.startswith(_LICENCE):
                found = True
                yield _read_line(line, position, letter, place)
            position += len(line)
    if not found:
        raise ValueError(f"{path} has no synset in it.")


def _read_line(line: bytes, position: int, letter: str, place: str) -> _Entry:
    # Each byte is a character in this encoding.
    text = line.decode("latin-1")
    if not _ENTRY.match(text):
        raise ValueError(
            f"{place}: not a line of a data file of WordNet. Received: "
            f"{text[:40]!r}"
        )
    if not text.endswith("\n"):
        raise ValueError(f"{place}: the file is truncated in this line.")
    if int(text[:8]) != position:
        raise ValueError(
            f"{place}: it must begin at byte {int(text[:8])}, as it says. "
            f"Received: byte {position}; the file was edited or is damaged."
        )
    fields, _, gloss = text.partition(" | ")
    try:
        lemmas, above = _read_fields(fields.split(), letter)
    except (IndexError, ValueError) as error:
        raise ValueError(
            f"{place}: its fields are not as many as it says. Received: "
            f"{fields[:40]!r}"
        ) from error
    definition = gloss.partition('"')[0].strip(" \n;:,")
    if not definition:
        raise ValueError(f"{place}: the gloss is missing.")
    return _Entry(
        key=f"{letter}.{text[:8]}",
        lemmas=lemmas,
        gloss=definition,
        examples=tuple(each.strip() for each in _QUOTED.findall(gloss)),
        above=above,
        place=place,
    )


def _read_fields(
    fields: list[str], letter: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns lemmas, and the keys of broader synsets."""
    count = int(fields[3], 16)  # hexadecimal, in contrast to all others
    words = fields[4 : 4 + 2 * count : 2]
    start = 4 + 2 * count
    pointers = int(fields[start])
    above = []
    for first in range(start + 1, start + 1 + 4 * pointers, 4):
        symbol, offset, kind, _ = fields[first : first + 4]
        if symbol in _BROADER:
            above.append(f"{kind}.{int(offset):08d}")
    if not words or (letter != "v" and len(fields) != start + 1 + 4 * pointers):
        raise ValueError
    lemmas = tuple(_MARKER.sub("", word).replace("_", " ") for word in words)
    return lemmas, tuple(above)
