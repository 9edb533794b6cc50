"""Writes small data files in WordNet's format, with positions that hold."""

import dataclasses
import itertools

# Part of speech to file.
_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_LICENCE = "  1 This software is provided under a licence.  \n"


@dataclasses.dataclass
class Entry:
    """A synset to be written; `above` are (pointer, number of an entry)."""

    kind: str
    lemmas: tuple[str, ...]
    gloss: str
    above: tuple[tuple[str, int], ...] = ()

    @property
    def letter(self):
        return "a" if self.kind == "s" else self.kind


ANIMALS = [
    Entry("n", ("animal", "beast"), "a living creature that can move"),
    Entry(
        "n",
        ("dog", "domestic_dog"),
        'a pet that barks; "the dog barked"; "a dog\'s life"',
        (("@", 0), ("!", 3)),
    ),
    Entry("n", ("Rex",), "a famous dog", (("@i", 1),)),
    Entry("n", ("cat",), "a pet that purrs", (("@", 0),)),
    Entry("v", ("bark",), 'make the sound of a dog; "it barks"', (("@", 5),)),
    Entry("v", ("utter",), "make a sound"),
    Entry("a", ("canine",), "of or like a dog"),
    Entry("s", ("doggy(p)",), "smelling of dogs; (informal)", (("&", 6),)),
    Entry("r", ("doggedly",), "in a stubborn manner", (("\\", 6),)),
]


def many_entries(count):
    """Entries whose glosses can be learned: nouns of a kind and a number."""
    kinds = ("animal", "plant", "stone", "tool", "vessel")
    colours = ("red", "green", "blue", "white", "black", "grey", "brown")
    places = ("river", "forest", "desert", "city", "cellar", "mountain")
    whole = [Entry("n", (kind,), f"the class of each {kind}") for kind in kinds]
    for number, (i, colour, place) in zip(
        range(count - len(kinds)),
        itertools.cycle(itertools.product(range(len(kinds)), colours, places)),
        strict=False,
    ):
        whole.append(
            Entry(
                "n",
                (f"{colour}_{place}_{kinds[i]}_{number}",),
                f"a {colour} {kinds[i]} of the {place}, number {number}",
                (("@", i),),
            )
        )
    for letter, word in (("v", "be"), ("a", "good"), ("r", "well")):
        whole.append(Entry(letter, (word,), f"to be called {word} here"))
    return whole


def write_wordnet(folder, entries=ANIMALS):
    """Writes the four files; returns the identifier of each entry."""
    folder.mkdir(parents=True, exist_ok=True)
    positions = [0] * len(entries)
    # All positions have eight digits: lengths do not depend on them.
    for letter in _FILES:
        place = len(_LICENCE)
        for number, entry in enumerate(entries):
            if entry.letter == letter:
                positions[number] = place
                place += len(_line(entry, positions, entries).encode("latin-1"))
    for letter, name in _FILES.items():
        lines = [
            _line(entry, positions, entries)
            for entry in entries
            if entry.letter == letter
        ]
        text = _LICENCE + "".join(lines)
        (folder / f"data.{name}").write_bytes(text.encode("latin-1"))
    return [
        f"{entry.lemmas[0].partition('(')[0]}.{entry.letter}.{position:08d}"
        for position, entry in zip(positions, entries, strict=True)
    ]


def _line(entry, positions, entries):
    position = positions[next(i for i, e in enumerate(entries) if e is entry)]
    words = " ".join(f"{lemma} 0" for lemma in entry.lemmas)
    pointers = "".join(
        f" {symbol} {positions[number]:08d} {entries[number].letter} 0000"
        for symbol, number in entry.above
    )
    frames = " 01 + 02 00" if entry.kind == "v" else ""
    return (
        f"{position:08d} 05 {entry.kind} {len(entry.lemmas):02x} {words} "
        f"{len(entry.above):03d}{pointers}{frames} | {entry.gloss}  \n"
    )
