"""The small network that estimates what a deferral gains."""

from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_moe.types import Tensor

FOLDS = 5
_HIDDEN = 32
_BATCH = 128
_CHUNK = 65536  # rows estimated at a time
_STEPS = 2000  # at most; and
_EPOCHS = 40


class Network(NamedTuple):
    """Two dense layers over standardised features, as arrays.

    Attributes:
        mean: `[features]`.
        scale: `[features]`, positive.
        hidden_kernel: `[features, hidden]`.
        hidden_bias: `[hidden]`.
        kernel: `[hidden]`.
        bias: `[]`.
    """

    mean: np.ndarray
    scale: np.ndarray
    hidden_kernel: np.ndarray
    hidden_bias: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, features: Tensor) -> Tensor:
        """Returns the estimate for each row of `[n, features]`."""
        x = (features - self.mean) / self.scale
        x = ops.relu(ops.matmul(x, self.hidden_kernel) + self.hidden_bias)
        column = ops.matmul(x, self.kernel.reshape([-1, 1]))
        return ops.squeeze(column, -1) + self.bias

    def to_lists(self) -> dict[str, Any]:
        """Returns the arrays as lists, fit for JSON; they read back exactly."""
        return {name: array.tolist() for name, array in self._asdict().items()}

    @classmethod
    def read(cls, lists: Mapping[str, Any]) -> "Network":
        """Makes a network of what `to_lists` returned.

        Raises:
            ValueError: if these are not the arrays of a network.
        """
        if set(lists) != set(cls._fields):
            raise ValueError(
                f"`network` must have the fields {list(cls._fields)}. "
                f"Received: {sorted(lists)}."
            )
        network = cls(**{k: np.array(v, "float32") for k, v in lists.items()})
        kernel = network.hidden_kernel
        width, hidden = kernel.shape if kernel.ndim == 2 else (0, 0)
        shapes = [(width,), (width,), (width, hidden), (hidden,), (hidden,), ()]
        finite = all(np.isfinite(array).all() for array in network)
        if (
            [array.shape for array in network] != shapes
            or not finite
            or not (network.scale > 0.0).all()
        ):
            raise ValueError(
                "`network` must have finite arrays that fit together, and a "
                "positive scale. "
                f"Received: shapes {[array.shape for array in network]}."
            )
        return network


def fit_network(
    features: np.ndarray, gains: np.ndarray, seed: int
) -> tuple[Network, np.ndarray]:
    """Fits a network to gains, and says how it does on rows it has not seen.

    `FOLDS` more networks are trained beside it, in one model, each without a
    fold of the rows.

    Args:
        features: float32 `[n, f]`, finite.
        gains: `[n]`, in [-1, 1].
        seed: of the folds, the order of rows and the first weights.

    Returns:
        The network of all rows; and estimates `[n]`, each by the network that
        was trained without its row.
    """
    rng = np.random.default_rng(seed)
    n, width = features.shape
    mean = features.mean(axis=0, dtype="float64").astype("float32")
    scale = features.std(axis=0, dtype="float64").astype("float32")
    scale[scale < 1e-6] = 1.0
    x = ((features - mean) / scale).astype("float32")
    fold = rng.permutation(n) % FOLDS
    counts = np.ones([n, FOLDS + 1], "float32")
    counts[np.arange(n), fold] = 0.0
    model = _networks(width, seed)
    order = np.concatenate([rng.permutation(n) for _ in range(_epochs(n))])
    targets = np.stack(
        [np.broadcast_to(gains[:, None], counts.shape), counts], axis=-1
    ).astype("float32")
    model.fit(
        x[order], targets[order], batch_size=_BATCH, shuffle=False, verbose=0
    )
    # Keras's `predict` would compile a program more, for this one call.
    unseen = np.concatenate(
        [
            ops.convert_to_numpy(model(x[i : i + _CHUNK]))
            for i in range(0, n, _CHUNK)
        ]
    )[np.arange(n), fold]
    w1, b1, w2, b2 = (layer[-1] for layer in _arrays(model))
    return Network(mean, scale, w1, b1, w2, b2), unseen


def _epochs(n: int) -> int:
    return int(np.clip(_STEPS * _BATCH // n, 1, _EPOCHS))


def _networks(width: int, seed: int) -> keras.Model:
    """Returns `FOLDS + 1` networks side by side, compiled."""
    networks = FOLDS + 1
    glorot = keras.initializers.VarianceScaling(1.0, seed=seed)
    inputs = keras.Input([width])
    hidden = keras.layers.EinsumDense(
        "bf,kfh->bkh",
        [networks, _HIDDEN],
        activation="relu",
        bias_axes="kh",
        dtype="float32",
        kernel_initializer=_PerNetwork(glorot),
    )(inputs)
    outputs = keras.layers.EinsumDense(
        "bkh,kh->bk",
        [networks],
        bias_axes="k",
        dtype="float32",
        kernel_initializer="zeros",
    )(hidden)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.AdamW(2e-3, weight_decay=1e-2), _squares)
    return model


class _PerNetwork(keras.initializers.Initializer):
    """The same first weights for each network."""

    def __init__(self, initializer: keras.initializers.Initializer):
        self._of_one = initializer

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None):
        one = self._of_one(shape[1:], dtype=dtype)
        return ops.repeat(ops.expand_dims(one, 0), shape[0], axis=0)


def _squares(targets: Tensor, estimates: Tensor) -> Tensor:
    gains, counted = targets[..., 0], targets[..., 1]
    return ops.sum(counted * ops.square(gains - estimates), axis=-1)


def _arrays(model: keras.Model) -> list[np.ndarray]:
    return [ops.convert_to_numpy(weight) for weight in model.weights]
