"""Error of attention weights at equal numbers of features, in float64.

Distributions and measure are those of the literature on positive features
(isotropic normal queries and keys), and three that are not isotropic.
"""

from typing import Any

import numpy as np

from benchmarks.shared.report import Report
from keras_moe.layers import RandomFeatures

_LENGTH, _DRAWS = 256, 30
# Feature maps as published: FAVOR++ knows no statistics but the mean of |q +
# k|^2.
_PUBLISHED: dict[str, dict[str, Any]] = {
    "favor+": {"feature_map": "favor+"},
    "hyperbolic": {"feature_map": "hyperbolic"},
    "favor++": {
        "feature_map": "favor++",
        "antithetic": False,
        "projection": "orthogonal",
        "centering": False,
        "rescaling": False,
    },
}
_SIMPLEX = {**_PUBLISHED["favor++"], "projection": "simplex"}
_DEFAULT = {"feature_map": "favor++"}
# Isotropic inputs, as in the papers: dimension, standard deviation, number of
# features.
_ISOTROPIC = (
    (64, 0.25, 64),
    (64, 0.5, 64),
    (64, 0.5, 128),
    (64, 0.5, 256),
    (64, 0.7, 256),
    (16, 0.5, 64),
    (16, 0.7, 64),
    (16, 1.0, 256),
)
_ROWS = ("mean_shift", "scales", "low_rank", "isotropic")
_WITHIN = 1.05


def sample(row: str, rng: np.random.Generator, dim: int = 64) -> tuple:
    """Returns queries and keys of a distribution."""
    queries, keys = rng.normal(size=(2, _LENGTH, dim))
    if row == "mean_shift":
        return 0.5 + 0.4 * queries, 0.5 + 0.4 * keys
    if row == "scales":
        scale = np.exp(np.linspace(-1.2, 1.2, dim))
        return 0.4 * queries * scale, 0.4 * keys / scale
    if row == "low_rank":
        spectrum = np.exp(-np.arange(dim) / 6.0)
        spectrum *= 0.5 * np.sqrt(dim / (spectrum**2).sum())
        rotation, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
        return queries * spectrum @ rotation, keys * spectrum @ rotation
    return 0.5 * queries, 0.5 * keys


def error(
    queries: np.ndarray,
    keys: np.ndarray,
    num_random_features: int,
    seed: int,
    covariance: str = "dense",
    **options: Any,
) -> float:
    """Returns `|A' - A|^2 / |A|^2` of one draw of features."""
    features = RandomFeatures(
        num_random_features,
        covariance=covariance,
        redraw_interval=None,
        seed=seed,
        **options,
    )
    # Axes for a batch of one row, one head of keys and one group of queries.
    batch = [np.float32(x)[None, None, None] for x in (queries, keys)]
    features.build(*(x[:, 0].shape for x in batch))
    features.adapt(*batch)
    drawn = features.map()
    fitted = {
        name: np.float64(np.asarray(value)[0])
        for name, value in drawn._asdict().items()
        if name not in ("kernel", "antithetic")
    }
    x = queries * fitted["query_scale"][0] - fitted["query_shift"][0]
    y = keys * fitted["key_scale"][0] - fitted["key_shift"][0]
    of_x, of_y = (z @ fitted["projection"].T for z in (x, y))
    if drawn.antithetic:
        of_x, of_y = (np.concatenate([z, -z], axis=1) for z in (of_x, of_y))
    of_y += (y * (fitted["taken"][0] - 0.5 * y)).sum(1)[:, None]
    of_y += fitted["log_weights"]
    largest = of_y.max(axis=0)
    of_x = of_x + largest
    of_x -= of_x.max(axis=1, keepdims=True)
    weights = np.exp(of_x) @ np.exp(of_y - largest).T
    weights /= weights.sum(axis=1, keepdims=True)
    exact = softmax(queries @ keys.T / np.sqrt(queries.shape[1]))
    return float(((weights - exact) ** 2).sum() / (exact**2).sum())


def softmax(scores: np.ndarray) -> np.ndarray:
    """Returns rows that sum to 1."""
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def mean_errors(
    row: str, dim: int, scale: float, num_random_features: int
) -> dict[str, float]:
    """Returns the mean error of each kind, on the same data and seeds."""
    kinds = {
        **{k: {**v, "covariance": "isotropic"} for k, v in _PUBLISHED.items()},
        "favor++_simplex": {**_SIMPLEX, "covariance": "isotropic"},
        "default": _DEFAULT,
    }
    totals = dict.fromkeys(kinds, 0.0)
    for draw in range(_DRAWS):
        rng = np.random.default_rng(draw)
        queries, keys = sample(row, rng, dim)
        for name, options in kinds.items():
            totals[name] += error(
                scale * queries,
                scale * keys,
                num_random_features,
                draw,
                **options,
            )
    return {name: total / _DRAWS for name, total in totals.items()}


def add_claims(report: Report) -> None:
    """Adds the errors, and claims that the default is as good as the best."""
    for row in _ROWS:
        errors = mean_errors(row, 64, 1.0, 128)
        ours = errors.pop("default")
        report.add_figures(
            {
                f"attention_error_{row}_{name}": value
                for name, value in {"default": ours, **errors}.items()
            }
        )
        report.add_claim(
            f"attention_error_{row}",
            ours / min(errors.values()),
            _WITHIN,
            "<=",
        )
    for dim, deviation, features in _ISOTROPIC:
        errors = mean_errors("isotropic", dim, deviation / 0.5, features)
        label = f"attention_error_d{dim}_s{deviation}_m{features}"
        report.add_figures({f"{label}_{k}": v for k, v in errors.items()})
