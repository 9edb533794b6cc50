"""What each engine is asked, ours and the peers' alike.

Imported in each peer's environment: NumPy and the standard library alone.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np

SOURCE_LENGTH = 64
TOKENS = 64
PAD_ID, END_ID = 0, 1
# Folder of CTranslate2's model within the checkpoint's.
CONVERTED = "ctranslate2"
# What is no word: padding and the end, and what T5 calls unknown.
_FIRST_WORD = 3


class Task(NamedTuple):
    """What one process does.

    Attributes:
        model: folder of the checkpoint.
        answers: file of answers, `.npz` without the ending: the peer writes
            it, ours is compared with it; a batch size is put behind.
        threads: that may compute; the process has no more.
        rounds: timed answers of each batch.
        batches: numbers of sources that are answered at once.
        tokens: emitted for each source, whatever they are.
    """

    model: pathlib.Path
    answers: pathlib.Path
    threads: int
    rounds: int
    batches: tuple[int, ...]
    tokens: int = TOKENS

    def arguments(self) -> list[str]:
        """Returns the command line that `read_task` understands."""
        fields = self._asdict()
        batches = map(str, fields.pop("batches"))
        given = [f"--{name}={value}" for name, value in fields.items()]
        return [*given, "--batches", *batches]

    def answers_of(self, batch: int) -> pathlib.Path:
        """Returns the file with the peer's answers to a batch."""
        return self.answers.with_name(f"{self.answers.name}_b{batch}.npz")

    def sources(self, batch: int) -> np.ndarray:
        """Returns int32 ids `(batch, length)`, equal for all engines."""
        config = json.loads((self.model / "config.json").read_text())
        choose = np.random.default_rng(7)
        shape = (batch, SOURCE_LENGTH)
        ids = choose.integers(_FIRST_WORD, config["vocab_size"], shape)
        return ids.astype("int32")


def read_task() -> Task:
    """Takes the task from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--answers", type=pathlib.Path, required=True)
    for name in ("threads", "rounds", "tokens"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--batches", type=int, nargs="+", required=True)
    given = vars(parser.parse_args())
    return Task(**given | {"batches": tuple(given["batches"])})


def time_rounds(answer: Callable[[], Any], rounds: int) -> list[float]:
    """Returns the seconds of each call; one before them does not count."""
    answer()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        answer()
        seconds.append(time.perf_counter() - began)
    return seconds


def tell(figures: Mapping[str, Any]) -> None:
    """Hands the figures to whoever started this program."""
    sys.stdout.flush()
    print(json.dumps(figures))
