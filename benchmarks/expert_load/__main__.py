"""A picture of the load of each expert, on the CMU dictionary.

    python -m benchmarks.expert_load [--steps 150]

Trains the demo's model, with 16 experts in every block, for a few minutes, with
and without the load-balancing loss. Then draws where the tokens of words that
it has not seen go, and what training would drop of them. A run that was killed
goes on where it was.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import dataclasses
import functools
import json
import pathlib

import keras
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.shared.dictionary import load_splits
from benchmarks.shared.dictionary import make_pairs
from benchmarks.shared.kept_checkpoints import kept_checkpoints
from benchmarks.shared.report import RESULTS
from keras_moe.visualization import LayerLoads
from keras_moe.visualization import collect_expert_load
from keras_moe.visualization import plot_expert_load
from pipelines.g2p.modules import text
from pipelines.g2p.modules import training
from pipelines.g2p.modules.batches import array_pairs
from pipelines.g2p.modules.batches import evaluation_batches
from pipelines.g2p.modules.batches import training_batches
from pipelines.g2p.modules.presets import from_preset

_VARIANTS = {
    "with the load-balancing loss": 0.01,
    "without": 0.0,
}
_STEPS_BETWEEN_CHECKPOINTS = 25


def main() -> None:
    """Trains, prints the loads, draws them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument(
        "--png", type=pathlib.Path, default=RESULTS / "expert_load.png"
    )
    parser.add_argument(
        "--state", type=pathlib.Path, default=pathlib.Path("build/expert_load")
    )
    options = parser.parse_args()
    config = training.TrainingConfig(
        steps=options.steps,
        batch_size=256,
        peak_learning_rate=2e-3,
        max_minutes=0.0,
        label_smoothing=0.1,
    )
    splits = load_splits()
    pairs = {name: make_pairs(entries) for name, entries in splits.items()}
    found = {}
    console = Console()
    for name, weight in _VARIANTS.items():
        found[name] = loads = train(config, weight, pairs, options.state)
        for layer, load, dropped in zip(
            loads.names, loads.relative(), loads.dropped, strict=True
        ):
            shares = " ".join(f"{share:.2f}" for share in load)
            console.print(f"{name}, {layer}: {shares}, dropped {dropped:.2%}")
    options.png.parent.mkdir(parents=True, exist_ok=True)
    options.png.with_suffix(".json").write_text(to_json(found))
    draw(found, config.steps).savefig(options.png, dpi=100)


def train(
    config: training.TrainingConfig,
    weight: float,
    pairs: dict,
    state: pathlib.Path,
) -> LayerLoads:
    """Trains one variant and runs it, as in training, over unseen words."""
    keras.utils.set_random_seed(config.seed)
    model = from_preset(
        "switch_g2p_demo",
        vocabulary_size=text.SOURCE_VOCABULARY_SIZE,
        target_vocabulary_size=text.target_vocabulary_size(),
        num_experts=16,
        moe_every=1,
        load_balancing_loss_weight=weight,
    )
    settings = {
        "model": model.get_config(),
        "training": dataclasses.asdict(config),
    }
    with kept_checkpoints(
        state, "expert_load", settings, _STEPS_BETWEEN_CHECKPOINTS
    ) as checkpoints:
        training.train(
            model,
            training_batches(
                functools.partial(array_pairs, *pairs["train"]),
                model.config,
                config.batch_size,
                config.seed,
            ),
            validation=None,
            config=config,
            checkpoints=checkpoints,
        )
    unseen = evaluation_batches(
        functools.partial(array_pairs, *pairs["validation"]),
        model.config,
        config.batch_size,
    )
    return collect_expert_load(model, unseen, training=True)


def to_json(found: dict[str, LayerLoads]) -> str:
    """Returns the loads that are drawn, as JSON."""
    layers = {
        f"{layer} {name}": {
            "load": [round(float(share), 5) for share in load],
            "dropped": round(dropped, 5),
        }
        for name, loads in found.items()
        for layer, load, dropped in zip(
            loads.names, loads.loads, loads.dropped, strict=True
        )
    }
    return json.dumps(layers) + "\n"


def draw(found: dict[str, LayerLoads], steps: int) -> Figure:
    """Draws the variants one below the other."""
    figure = Figure((10, 3.9 * len(found)), layout="constrained")
    parts = figure.subfigures(len(found), 1, hspace=0.05, squeeze=False)
    for (name, loads), part in zip(found.items(), parts[:, 0], strict=True):
        title = f"CMU dictionary, unseen words, after {steps} updates {name}"
        plot_expert_load(loads, title=title, figure=part)
    return figure


if __name__ == "__main__":
    main()
