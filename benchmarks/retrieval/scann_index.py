"""ScaNN in a process of its own, through the protocol of levels."""

import json
import pathlib
import subprocess
from typing import Any

import numpy as np

from benchmarks.shared import environment
from keras_moe.retrieval import Level
from keras_moe.retrieval import ranks_within

_PROGRAM = "benchmarks.retrieval.serve_scann"


class ScannIndex:
    """A tree of ScaNN, and beside it what its autopilot makes.

    Args:
        folder: with `rows.npy`; files are written into it.
    """

    storage = "float32"

    def __init__(self, folder: pathlib.Path):
        self.k = 10
        self.settings = {"leaves_to_search": 1, "pre_reorder": self.k}
        self._folder = folder
        self._log = folder / "scann.log"
        with open(self._log, "w") as log:
            self._process = subprocess.Popen(
                [environment.make("scann"), "-m", _PROGRAM, folder],
                cwd=environment.ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._answer()
        self._rows, self._centres, self._leaf, self._coded = (
            np.load(folder / f"{name}.npy")
            for name in ("rows", "centres", "leaf", "coded")
        )

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    @property
    def fingerprint(self) -> str:
        """No file of it is kept."""
        return "scann"

    def vectors(self) -> np.ndarray:
        """Returns the candidates."""
        return self._rows

    def levels(self, k: int) -> tuple[Level, ...]:
        """Returns the leaves, and the codes in them."""
        count, dim = self._rows.shape
        leaves = len(self._centres)
        return (
            Level(
                "leaves_to_search",
                least=1,
                most=leaves,
                fixed_bytes=leaves * dim * 4,
                bytes_each=count / leaves * dim / 4,
            ),
            Level("pre_reorder", k, 4096, 0, dim * 4),
        )

    def search(
        self, queries: np.ndarray, k: int, settings: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns scores and rows, as the process finds them."""
        leaves, candidates = (settings or self.settings).values()
        asked, out = self._files(queries)
        self._ask(
            "search",
            queries=asked,
            out=out,
            k=k,
            leaves=leaves,
            candidates=candidates,
        )
        rows = np.load(out)
        scores = np.einsum("qkd,qd->qk", self._rows[rows], queries)
        return scores, rows

    def compare(
        self, queries: np.ndarray
    ) -> tuple[dict[str, float], np.ndarray]:
        """Returns times of both, and the rows that the autopilot finds."""
        leaves, candidates = self.settings.values()
        asked, out = self._files(queries)
        times = self._ask(
            "compare",
            queries=asked,
            out=out,
            leaves=leaves,
            candidates=candidates,
        )
        return times, np.load(out)

    def ranks(
        self, queries: np.ndarray, neighbors: np.ndarray, choices: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns ranks among leaves, and among the codes of the best."""
        return ranks_within(
            queries @ self._centres.T,
            self._leaf,
            queries @ self._coded.T,
            neighbors,
            choices,
        )

    def _files(self, queries: np.ndarray) -> tuple[str, str]:
        asked = self._folder / "asked.npy"
        np.save(asked, queries)
        return str(asked), str(self._folder / "found.npy")

    def _ask(self, function: str, **arguments: Any) -> Any:
        request = json.dumps({"function": function, **arguments})
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            said = self._log.read_text()[-2000:]
            raise RuntimeError(f"{_PROGRAM} has ended:\n{said}")
        return json.loads(line)
