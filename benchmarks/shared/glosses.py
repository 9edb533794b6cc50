"""WordNet's glosses as rows of hashed words, with the classes of synsets."""

import re
import zlib
from collections.abc import Sequence

import numpy as np

from pipelines.search.data.wordnet import find_wordnet
from pipelines.search.data.wordnet import read_wordnet

CLASSES = 45  # files that lexicographers keep
_WORD = re.compile(r"[a-z]+")


def load_glosses(seed: int) -> tuple[list[list[str]], np.ndarray, list[str]]:
    """Gives all glosses in an order of the seed.

    Returns:
        The words of each, its class, int64 `[n]`, and the synset's identifier.
    """
    synsets = read_wordnet(find_wordnet())
    order = np.random.default_rng(seed).permutation(len(synsets))
    words = [_WORD.findall(synsets[i].gloss.lower()) for i in order]
    labels = np.array([synsets[i].category for i in order])
    return words, labels, [synsets[i].identifier for i in order]


def words_and_pairs(words: Sequence[str]) -> list[str]:
    """Returns the words, and every two that stand together."""
    pairs = zip(words[:-1], words[1:], strict=True)
    return [*words, *map(" ".join, pairs)]


def bucket(text: str, buckets: int) -> int:
    """Returns a number from 1 to `buckets - 1`; 0 is left for no word."""
    # Python's own hash differs from run to run.
    return 1 + zlib.crc32(text.encode()) % (buckets - 1)


def pad(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """Returns int32 `[n, length]`, with 0 after the end of each row."""
    padded = np.zeros([len(rows), length], "int32")
    for row, ids in enumerate(rows):
        padded[row, : len(ids)] = ids[:length]
    return padded
