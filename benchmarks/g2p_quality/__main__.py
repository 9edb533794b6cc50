"""Quality on the CMU dictionary: sparse against FLOP-matched dense.

    python -m benchmarks.g2p_quality [--steps 1500] [--json FILE]

Trains both for the same number of steps under the same schedule, in turns of
`_STEPS_PER_TURN`, and records the learning curve. Each turn is kept; an
interrupted run reports what it has, and goes on where it stopped when it is
started again. A quarter of an hour on two quiet cores; for a night, `--steps
40000 --dropout-rate 0.1`.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import json
import os
import pathlib
import time
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from benchmarks.shared.report import Report
from keras_moe.metrics import sequence_error_rate
from keras_moe.metrics import symbol_error_rate
from keras_moe.models import SwitchTransformer
from keras_moe.training import EarlyExitTrainer
from pipelines.g2p.data.dictionary import find_cmu_dictionary
from pipelines.g2p.data.dictionary import read_dictionary
from pipelines.g2p.data.splits import SPLITS
from pipelines.g2p.data.splits import split_of
from pipelines.g2p.modules import text
from pipelines.g2p.modules import training
from pipelines.g2p.modules.presets import from_preset

RESULTS = pathlib.Path("benchmarks/results")
_STEPS_PER_TURN = 250
_DECODED_AT_ONCE = 1024
# Otherwise alike: in training, a Switch layer computes as much for a token as
# the dense layer that it replaces (times the capacity factor).
_VARIANTS: dict[str, dict[str, Any]] = {
    "sparse": {},
    "dense": {"num_experts": 0},
}
# Word error rates on CMUdict without stress, as published. Their version of
# the dictionary and their split differ from ours.
_PUBLISHED = (
    ("bidirectional LSTM (arXiv:1506.00196)", 23.55),
    ("LSTM with n-gram (Rao et al., 2015)", 21.3),
    ("attention ensemble (arXiv:1610.06540)", 20.24),
    ("Transformer 4x4 (arXiv:2004.06338; from memory)", 22.1),
)

Entries = list[tuple[str, tuple[str, ...]]]


class Variant:
    """One model on its way: its state on disk and its learning curve.

    Args:
        name: what it is called.
        overrides: in what its `SwitchTransformerConfig` differs.
        config: how long and how to train.
        dropout_rate: dropout, inside experts and elsewhere.
        state: folder of the kept state.
        exits: which exits of the decoder are trained, too; arguments of
            `EarlyExitTrainer`.
    """

    def __init__(
        self,
        name: str,
        overrides: dict[str, Any],
        config: training.TrainingConfig,
        dropout_rate: float,
        state: pathlib.Path,
        exits: dict[str, Any] | None = None,
    ):
        self.name = name
        self.config = config
        keras.utils.set_random_seed(config.seed)
        self.model = from_preset(
            "switch_g2p_demo",
            vocabulary_size=text.SOURCE_VOCABULARY_SIZE,
            target_vocabulary_size=text.target_vocabulary_size(),
            dropout_rate=dropout_rate,
            expert_dropout_rate=dropout_rate,
            **overrides,
        )
        self.trainer = (
            self.model
            if exits is None
            else EarlyExitTrainer(self.model, **exits)
        )
        training.compile_model(self.trainer, config)
        self.trainer.optimizer.build(self.model.trainable_variables)
        self._weights = state / f"{name}.weights.h5"
        self._curve = state / f"{name}.json"
        self.curve: list[dict[str, float]] = []
        self.restore()

    def restore(self) -> None:
        """Takes up the state that was kept last, if any."""
        if self._curve.exists():
            self.curve = json.loads(self._curve.read_text())
            self.trainer.load_weights(self._weights)

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return int(self.curve[-1]["step"]) if self.curve else 0

    def turn(self, source, target, validation: Entries) -> None:
        """Trains for one turn, measures, and keeps the state."""
        steps = min(_STEPS_PER_TURN, self.config.steps - self.step)
        began = time.monotonic()
        self.trainer.fit(
            training.batches(
                source,
                target,
                self.model.config,
                self.config.batch_size,
                # Each turn has an order of its own, resumed or not.
                seed=self.config.seed + self.step,
            ),
            steps_per_epoch=steps,
            callbacks=[training.BudgetedSchedule(self.config, self.step)],
            shuffle=False,
            verbose=0,
        )
        seconds = time.monotonic() - began
        point = {"step": self.step + steps, "seconds": round(seconds, 1)}
        self.curve.append({**point, **error_rates(self.model, validation)})
        self._keep()

    def _keep(self) -> None:
        """Writes the state; the curve last, since it says what is kept."""
        partial = self._weights.with_name(f"{self.name}.partial.weights.h5")
        self.trainer.save_weights(partial)
        os.replace(partial, self._weights)
        written = self._curve.with_suffix(".partial")
        written.write_text(json.dumps(self.curve, indent=1))
        os.replace(written, self._curve)


def error_rates(model: SwitchTransformer, entries: Entries) -> dict[str, float]:
    """Decodes words greedily and scores them.

    Returns:
        `phoneme_error_rate` against the nearest listed pronunciation,
        `word_error_rate` (any listed one counts) and
        `word_error_rate_strict` (only the first).
    """
    predicted = []
    for start in range(0, len(entries), _DECODED_AT_ONCE):
        words = [word for word, _ in entries[start : start + _DECODED_AT_ONCE]]
        ids = text.encode_words(tf.constant(words))["encoder_token_ids"]
        decoded = model.generate(ids, max_length=text.MAX_PHONEMES)
        phonemes = text.decode_phonemes(decoded["token_ids"]).numpy()
        predicted += [answer.decode().split() for answer in phonemes]
    listed = [[p.split() for p in ps] for _, ps in entries]
    return {
        "phoneme_error_rate": symbol_error_rate(predicted, listed),
        "word_error_rate": sequence_error_rate(predicted, listed),
        "word_error_rate_strict": sequence_error_rate(
            predicted, listed, mode="strict"
        ),
    }


def load_splits() -> dict[str, Entries]:
    """Returns the demo's splits of the CMU dictionary."""
    splits: dict[str, Entries] = {name: [] for name in SPLITS}
    for word, listed in read_dictionary(find_cmu_dictionary()).items():
        splits[split_of(word)].append((word, listed))
    return splits


def make_pairs(entries: Entries):
    """Returns the ids of each (word, pronunciation) pair."""
    words = [word for word, listed in entries for _ in listed]
    listed = [one for _, listed in entries for one in listed]
    source = text.encode_words(tf.constant(words))["encoder_token_ids"]
    target = text.encode_pronunciations(tf.constant(listed))
    return source.numpy(), target.merge_dims(0, 1).to_tensor().numpy()


def plot(variants: list[Variant], path: pathlib.Path) -> None:
    """Draws the word error rate over the steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for variant in variants:
        axes.plot(
            [point["step"] for point in variant.curve],
            [100 * point["word_error_rate"] for point in variant.curve],
            marker="o",
            markersize=3,
            label=f"{variant.name}, {variant.model.count_params():,} weights",
        )
    axes.set(
        xlabel="updates of 512 words",
        ylabel="word error rate, % (validation)",
        title="CMU dictionary, equal steps and equal cost of a token",
        yscale="log",
    )
    ticks = [25, 30, 40, 60, 100]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def show_published(variants: list[Variant], rates: dict, console) -> None:
    """Prints our test figures beside published ones."""
    table = Table("model", "WER, %", title="CMUdict without stress")
    for variant in variants:
        rate = 100 * rates[variant.name]["word_error_rate"]
        name = f"ours, {variant.name}, {variant.step:,} steps"
        table.add_row(name, f"{rate:.2f}")
    for name, rate in _PUBLISHED:
        table.add_row(name, f"{rate:.2f}")
    console.print(table)
    console.print(
        "The published figures are on other versions of the dictionary and "
        "other splits: near, not equal, conditions."
    )


def main() -> None:
    """Trains in turns, then reports on the test split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    # Up to some ten passes over the dictionary there is nothing to regularise.
    parser.add_argument("--dropout-rate", type=float, default=0.0)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument(
        "--state", type=pathlib.Path, default=pathlib.Path("build/g2p_quality")
    )
    options = parser.parse_args()
    config = training.TrainingConfig(
        steps=options.steps,
        batch_size=512,
        peak_learning_rate=2e-3,
        max_minutes=0.0,
        label_smoothing=0.1,
    )
    state = options.state / f"{options.steps}_{options.dropout_rate}"
    state.mkdir(parents=True, exist_ok=True)
    console = Console()
    splits = load_splits()
    source, target = make_pairs(splits["train"])
    variants = [
        Variant(name, overrides, config, options.dropout_rate, state)
        for name, overrides in _VARIANTS.items()
    ]
    try:
        while any(variant.step < config.steps for variant in variants):
            variant = min(variants, key=lambda each: each.step)
            variant.turn(source, target, splits["validation"])
            record(variants, console)
    except KeyboardInterrupt:
        console.print("Interrupted: this is what there is so far.")
        for variant in variants:
            variant.restore()
    report_on_test(variants, splits["test"], console).write(
        options.json or RESULTS / "g2p_quality.json"
    )


def record(variants: list[Variant], console: Console) -> None:
    """Prints where the variants are, and writes their curves."""
    for variant in variants:
        if variant.curve:
            point = variant.curve[-1]
            console.print(
                f"{variant.name:>6} step {point['step']:,}: PER "
                f"{point['phoneme_error_rate']:.2%}, WER "
                f"{point['word_error_rate']:.2%} (validation), "
                f"{point['seconds']:.0f} s"
            )
    plot(variants, RESULTS / "g2p_quality.png")
    curves = {variant.name: variant.curve for variant in variants}
    (RESULTS / "g2p_quality_curves.json").write_text(
        json.dumps(curves, indent=1) + "\n"
    )


def report_on_test(
    variants: list[Variant], test: Entries, console: Console
) -> Report:
    """Scores the test split, prints it beside published figures."""
    rates = {v.name: error_rates(v.model, test) for v in variants}
    report = Report("Grapheme to phoneme, test split")
    report.add_figures({"planned_steps": variants[0].config.steps})
    report.add_figures(
        {
            f"{variant.name}_{figure}": value
            for variant in variants
            for figure, value in {
                **rates[variant.name],
                "parameters": variant.model.count_params(),
                "steps": variant.step,
            }.items()
        }
    )
    sparse, dense = rates["sparse"], rates["dense"]
    report.add_claim(
        "sparse_word_error_rate", sparse["word_error_rate"], 0.20, "<="
    )
    report.add_claim(
        "sparse_over_dense_word_error_rate",
        sparse["word_error_rate"] / dense["word_error_rate"],
        1.0,
        "<",
    )
    report.show()
    show_published(variants, rates, console)
    return report


if __name__ == "__main__":
    main()
