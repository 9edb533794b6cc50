"""The picture of `benchmarks.random_feature_attention`."""

import pathlib
from collections.abc import Mapping

_LABELS = {
    "softmax": "keras MultiHeadAttention",
    "features_128": "128 random features",
    "features_256": "256 random features",
}


def draw(times: Mapping, peaks: Mapping, path: pathlib.Path) -> None:
    """Draws time and memory of a training step over the length."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 4), layout="constrained"
    )
    for name, label in _LABELS.items():
        seconds = times["both_graph"][name]
        memory = peaks["both"][name]
        left.plot(list(seconds), list(seconds.values()), "o-", label=label)
        mib = [each / 2**20 for each in memory.values()]
        right.plot(list(memory), mib, "o-", label=label)
    left.set_ylabel("seconds of a training step")
    right.set_ylabel("peak memory above inputs, MiB")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("tokens (8 heads of 64, model dimension 512)")
        axes.grid(alpha=0.3)
    left.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
