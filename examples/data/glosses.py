"""WordNet's glosses: 117,659 short real texts, each of one of 45 topics.

`make wordnet` fetches them; `WORDNET=/a/folder` names one that has `data.noun`
and its siblings.
"""

import os
import pathlib
from typing import NamedTuple

import numpy as np

TOPICS = 45
_ROOT = pathlib.Path(__file__).parents[2]
_FOLDERS = (_ROOT / "build/wordnet/usr/share/wordnet", "/usr/share/wordnet")


class Glosses(NamedTuple):
    """Texts in a random order.

    Attributes:
        words: what each text defines, such as "dog, domestic dog".
        texts: the definitions.
        topics: int32 `[n]`, from 0 to 44, such as that of animals.
    """

    words: np.ndarray
    texts: np.ndarray
    topics: np.ndarray


def load(most: int | None = None, seed: int = 0) -> Glosses:
    """Reads the glosses.

    Args:
        most: how many; all unless given.
        seed: of their order.

    Raises:
        FileNotFoundError: if WordNet is not there.
    """
    rows = []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (_folder() / f"data.{part}").read_text().splitlines():
            if line.startswith("  "):  # the licence
                continue
            entry, gloss = line.split(" | ", 1)
            _, topic, _, count, *fields = entry.split()
            words = fields[: 2 * int(count, 16) : 2]
            text = gloss.split('; "')[0].strip()  # examples are left out
            rows.append((", ".join(words).replace("_", " "), text, int(topic)))
    order = np.random.default_rng(seed).permutation(len(rows))[:most]
    words, texts, topics = zip(*(rows[i] for i in order), strict=True)
    return Glosses(np.array(words), np.array(texts), np.array(topics, "int32"))


def _folder() -> pathlib.Path:
    folders = [os.environ.get("WORDNET"), *_FOLDERS]
    for folder in filter(None, folders):
        if (pathlib.Path(folder) / "data.noun").is_file():
            return pathlib.Path(folder)
    raise FileNotFoundError(
        "WordNet is not there: `make wordnet` fetches it, and "
        "WORDNET=/a/folder names one."
    )
