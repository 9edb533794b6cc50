"""What the figures of the layers come to: claims, and what bounds them."""

from typing import Any

from benchmarks.moe_layer.task import DENSE
from benchmarks.shared.report import Report

_BOTH = "forward_backward"
_TARGETS = {
    "gather": {8: 1.35, 32: 1.45, 128: 1.9},
    "ragged": {8: 1.10, 32: 1.20, 128: 1.6},
}
_OVER_TRANSFORMERS = 1.1
_SPEEDUP_OVER_TF_MODELS = 2.5
# The group size that tf-models-official's documentation recommends.
_RECOMMENDED = "group_4096"

# Maps a number of experts to the figures that a timing program printed.
Figures = dict[int, dict[str, Any]]


def add_ours(report: Report, ours: Figures) -> None:
    """Claims the cost of our executors, and says what bounds it."""
    for experts, figures in ours.items():
        forward, both = figures["forward"], figures[_BOTH]
        for name, targets in _TARGETS.items():
            report.add_claim(
                f"{name}_over_dense_e{experts}",
                both[name],
                targets[experts],
                "<=",
            )
        report.add_figures(
            {
                f"dense_ms_e{experts}": both[DENSE],
                f"dense_forward_ms_e{experts}": forward[DENSE],
                f"gather_forward_over_dense_e{experts}": forward["gather"],
                f"ragged_forward_over_dense_e{experts}": forward["ragged"],
                # `einsum` is timed on groups of 512 tokens only: its one-hot
                # products are quadratic in the group.
                f"einsum_512_over_dense_e{experts}": both["einsum_sequences"],
                f"ragged_fresh_tokens_over_dense_e{experts}": both[
                    "ragged_fresh"
                ],
                f"kept_e{experts}": figures["kept_gather"],
            }
        )
    experts = max(ours)
    traffic = ours[experts]["traffic"]
    # Memory traffic bounds the layer from below: the forward pass reads each
    # kernel, the backward pass reads it again and writes its gradient. At best
    # all of the traffic hides behind the products.
    moved = 2 * traffic["read"] + traffic["write"]
    report.add_figures(
        {
            f"floor_e{experts}_read_weights_over_dense": traffic["read"],
            f"floor_e{experts}_write_gradients_over_dense": traffic["write"],
            f"floor_e{experts}_hidden_traffic": max(1.0, moved),
            f"floor_e{experts}_added_traffic": 1.0 + moved,
        }
    )


def add_tf_models(report: Report, ours: Figures, theirs: Figures) -> None:
    """Claims the speed-up over the TensorFlow Model Garden's layer."""
    for experts, figures in theirs.items():
        groups = dict(figures[_BOTH])
        del groups[DENSE]
        best = min(groups, key=groups.__getitem__)
        mine = _best(ours[experts], "gather", "ragged")
        speedup = groups[_RECOMMENDED] / mine
        name = f"speedup_over_tf_models_e{experts}"
        if experts == min(theirs):
            report.add_claim(name, speedup, _SPEEDUP_OVER_TF_MODELS, ">=")
        else:
            report.add_figures({name: speedup})
        report.add_figures(
            {
                f"{name}_at_one_sequence_a_group": groups["group_512"] / mine,
                f"{name}_at_its_best_group": groups[best] / mine,
                f"tf_models_best_group_e{experts}": best,
                f"tf_models_over_dense_e{experts}": groups[_RECOMMENDED],
            }
        )


def add_transformers(report: Report, ours: Figures, theirs: Figures) -> None:
    """Claims that we are no slower than transformers, dense for dense."""
    for experts, figures in theirs.items():
        mine = _best(ours[experts], "gather_sequences", "ragged_sequences")
        over_dense = figures[_BOTH]["layer"]
        report.add_claim(
            f"over_transformers_e{experts}",
            mine / over_dense,
            _OVER_TRANSFORMERS,
            "<=",
        )
        report.add_figures(
            {
                f"transformers_over_dense_e{experts}": over_dense,
                f"transformers_dense_ms_e{experts}": figures[_BOTH][DENSE],
                f"transformers_kept_e{experts}": figures["kept"],
                f"kept_by_sequence_e{experts}": ours[experts][
                    "kept_gather_sequences"
                ],
            }
        )


def _best(figures: dict[str, Any], *names: str) -> float:
    return min(figures[_BOTH][name] for name in names)
