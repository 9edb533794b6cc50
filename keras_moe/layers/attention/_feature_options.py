"""Which options of random features go together."""

from typing import NamedTuple

SOFTMAX_MAPS = ("favor+", "hyperbolic", "favor++")
FEATURE_MAPS = (*SOFTMAX_MAPS, "relu", "elu")


class FeatureOptions(NamedTuple):
    """The options of `RandomFeatures` that may be left open."""

    antithetic: bool
    projection: str
    centering: bool
    rescaling: bool


def choose_options(
    feature_map: str,
    num_random_features: int,
    dim: int,
    *,
    antithetic: bool | None,
    projection: str | None,
    centering: bool | None,
    rescaling: bool | None,
) -> FeatureOptions:
    """Returns the options, the best for each that is `None`.

    FAVOR+ and its hyperbolic form are as published, unless told otherwise.
    """
    best = feature_map == "favor++"
    if antithetic is None:
        # In pairs there are half as many draws; fewer than `dim` of them do not
        # fill a block of coupled draws, which costs more than pairs save.
        fills = num_random_features >= 2 * dim and num_random_features % 2 == 0
        antithetic = feature_map == "hyperbolic" or (best and fills)
    if projection is None:
        alone = best and not antithetic and dim > 1
        projection = "simplex" if alone else "orthogonal"
    return FeatureOptions(
        antithetic,
        projection,
        best if centering is None else centering,
        best if rescaling is None else rescaling,
    )


def check_options(
    feature_map: str, num_random_features: int, **options: bool | None
) -> None:
    """Raises `ValueError` unless all options go with the feature map."""
    antithetic = options["antithetic"]
    if feature_map not in SOFTMAX_MAPS:
        for name, option in options.items():
            if option:
                raise ValueError(
                    f"`{name}` is for softmax kernels, {SOFTMAX_MAPS}. "
                    f"Received: {name}=True, feature_map={feature_map!r}."
                )
    if feature_map == "hyperbolic" and antithetic is False:
        raise ValueError(
            "`feature_map='hyperbolic'` comes in pairs. Received: "
            "antithetic=False."
        )
    in_pairs = antithetic or feature_map == "hyperbolic"
    if in_pairs and num_random_features % 2:
        raise ValueError(
            "`num_random_features` must be even for features in pairs. "
            f"Received: num_random_features={num_random_features}."
        )


def refuse_dense_covariance(name: str, feature_map: str) -> None:
    """Raises `ValueError`: a mesh of devices computes no eigenvalues."""
    raise ValueError(
        "covariance='dense' takes eigenvalues, which TensorFlow cannot compute "
        "on a mesh of devices. Use covariance='per_dimension', or "
        f"feature_map='favor+'. Received: {name!r} with "
        f"feature_map={feature_map!r}, covariance='dense'."
    )
