import pathlib

import pytest

from pipelines.search.data import wordnet
from pipelines.search.data.wordnet import Synset
from pipelines.search.data.wordnet import read_wordnet
from tests.pipelines.search.tiny_wordnet import write_wordnet


@pytest.fixture
def folder(tmp_path):
    write_wordnet(tmp_path)
    return tmp_path


def edit(path, change):
    path.write_bytes(change(path.read_bytes()))


def test_synsets_are_read(tmp_path):
    names = write_wordnet(tmp_path)
    synsets = {each.identifier: each for each in read_wordnet(tmp_path)}
    assert list(synsets) == names
    assert synsets[names[1]] == Synset(
        identifier=names[1],
        lemmas=("dog", "domestic dog"),
        gloss="a pet that barks",
        examples=("the dog barked", "a dog's life"),
        broader=("animal", "beast"),
        category=5,
    )
    assert synsets[names[1]].document == "dog, domestic dog, animal, beast"
    # The hypernym of a name, and of a verb, whose line has frames as well.
    assert synsets[names[2]].broader == ("dog", "domestic dog")
    assert synsets[names[4]].broader == ("utter",)
    # A satellite adjective, where it stands left out, and its head.
    assert synsets[names[7]].lemmas == ("doggy",)
    assert synsets[names[7]].broader == ("canine",)
    assert names[7].startswith("doggy.a.")
    # Other pointers lead to no broader word.
    assert synsets[names[8]].broader == ()


@pytest.mark.parametrize(
    ("gloss", "definition", "examples"),
    [
        ("able; to swim", "able; to swim", ()),
        ('near: "near home"', "near", ("near home",)),
        ('close; "a "; (rare)', "close", ("a",)),
        ("called `that'", "called `that'", ()),
        ('hot; "hot water', "hot", ()),
        ("of the caf\xe9", "of the caf\xe9", ()),
    ],
)
def test_glosses_are_told_from_examples(tmp_path, gloss, definition, examples):
    entries = [
        wordnet_entry("n", gloss),
        *(wordnet_entry(letter, "any") for letter in "var"),
    ]
    write_wordnet(tmp_path, entries)
    first = read_wordnet(tmp_path)[0]
    assert (first.gloss, first.examples) == (definition, examples)


def wordnet_entry(letter, gloss):
    from tests.pipelines.search.tiny_wordnet import Entry

    return Entry(letter, ("word",), gloss)


def test_a_folder_without_a_file_is_refused(folder):
    (folder / "data.adv").unlink()
    with pytest.raises(FileNotFoundError, match="data.adv does not exist"):
        read_wordnet(folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        # Cut within a line, and between two.
        ("noun", lambda b: b[:-40], "line 5: the file is truncated in"),
        ("adj", lambda b: b[: b.rindex(b"000")], "line 3: .*truncated"),
        ("verb", lambda b: b"\n".join(b.split(b"\n")[:2]) + b"\n", "points to"),
        ("noun", lambda b: b"", "has no synset in it"),
        ("noun", lambda b: b"  1 licence\n", "has no synset in it"),
        # Edited, or of another kind.
        ("noun", lambda b: b.replace(b"pet", b"puppy", 1), "begin at byte"),
        ("noun", lambda b: b"\x89PNG\r\n\x1a\n" + b, "line 1: not a line of a"),
        ("noun", lambda b: b"word,gloss\n" + b, "not a line of a data file"),
        ("adv", lambda b: b.replace(b" 01 dog", b" 07 dog"), "fields are not"),
        ("adv", lambda b: b.replace(b" 001 ", b" 002 "), "fields are not"),
        ("adv", lambda b: b.replace(b"in a st", b'"n a st'), "the gloss is"),
    ],
)
def test_a_damaged_or_foreign_file_is_named(folder, name, change, message):
    path = folder / f"data.{name}"
    edit(path, change)
    with pytest.raises(ValueError, match=message) as raised:
        read_wordnet(folder)
    assert str(folder) in str(raised.value)


def test_wordnet_is_found_or_said_how(folder, tmp_path, monkeypatch):
    nothing = tmp_path / "nothing"
    monkeypatch.setattr(wordnet, "_FOLDERS", (nothing, folder))
    assert wordnet.find_wordnet() == folder
    monkeypatch.setattr(wordnet, "_FOLDERS", (nothing,))
    with pytest.raises(FileNotFoundError, match="run `make wordnet`"):
        wordnet.find_wordnet()


FETCHED = pathlib.Path(wordnet.__file__).parents[3] / "build" / "wordnet"


@pytest.mark.large
@pytest.mark.skipif(not FETCHED.is_dir(), reason="WordNet was not fetched")
def test_the_whole_of_wordnet():
    synsets = read_wordnet(wordnet.find_wordnet())
    assert len(synsets) == len({each.identifier for each in synsets}) == 117_659
    # Counted by another parser.
    assert sum(len(each.examples) for each in synsets) == 48_339
    assert len({each.gloss for each in synsets}) == 116_697
