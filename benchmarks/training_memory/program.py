"""One training, or one reading, in a process of its own: prints JSON.

python -m benchmarks.training_memory.program train stream FOLDER 10 300
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import functools
import json
import pathlib
import resource
import tempfile
import time
import types
from typing import Any
from unittest import mock

from benchmarks.training_memory import arrays
from benchmarks.training_memory.files import pattern
from pipelines.g2p.modules import batches
from pipelines.g2p.modules import text
from pipelines.g2p.modules import trainer
from pipelines.g2p.modules.training_config import TrainingConfig
from pipelines.g2p.modules.transformed import stream_pairs

READERS = {"stream": batches, "arrays": arrays}


def main() -> None:
    """Runs what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "read"))
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("times", type=int, help="how often the dictionary is")
    parser.add_argument("steps", type=int, help="updates, or batches to read")
    options = vars(parser.parse_args())
    run = {"train": train, "read": read}[options.pop("what")]
    print(json.dumps(run(**options)))


def train(
    reader: str, folder: pathlib.Path, times: int, steps: int
) -> dict[str, Any]:
    """Trains the demo's teacher by the code of the Trainer component.

    Export is left out: it is the same for any dictionary, and needs the graph
    of Transform.

    Returns:
        The peak of resident memory in MiB, and updates per second of processor
        time, set-up included.
    """
    began = time.process_time()
    config = TrainingConfig(steps=steps, max_minutes=0.0)
    fn_args = types.SimpleNamespace(
        train_files=[str(pattern(folder, times, "train"))],
        eval_files=[str(pattern(folder, times, "validation"))],
        hyperparameters=None,
        base_model=None,
        train_steps=None,
        eval_steps=None,
        schema_path=None,
        transform_graph_path=None,
        serving_model_dir=None,
        custom_config={
            "preset": "switch_g2p_demo",
            "keep_stress": False,
            "training": vars(config),
            "strategy": "default",
        },
    )
    chosen = READERS[reader]
    with (
        tempfile.TemporaryDirectory() as run,
        mock.patch.multiple(
            trainer,
            training_batches=chosen.training_batches,
            evaluation_batches=chosen.evaluation_batches,
            export_model=mock.DEFAULT,
            keep_history=mock.DEFAULT,
        ),
    ):
        # Checkpoints go beside this folder, into the one of the component.
        fn_args.model_run_dir = f"{run}/model_run"
        trainer.run_fn(fn_args)
    return {
        "peak_mib": peak_mib(),
        "updates_per_second": steps / (time.process_time() - began),
    }


def read(
    reader: str, folder: pathlib.Path, times: int, steps: int
) -> dict[str, Any]:
    """Reads batches alone.

    Returns:
        Examples per second of processor time, whatever runs before the first
        batch included.
    """
    began, examples = time.process_time(), 0
    pairs = functools.partial(
        stream_pairs, [str(pattern(folder, times, "train"))]
    )
    config = types.SimpleNamespace(pad_id=text.PAD_ID, start_id=text.PAD_ID)
    epoch = READERS[reader].training_batches(
        pairs, config, TrainingConfig().batch_size, seed=0
    )
    for _, labels in epoch(0).take(steps):
        examples += labels.shape[0]
    return {
        "peak_mib": peak_mib(),
        "examples_per_second": examples / (time.process_time() - began),
    }


def peak_mib() -> float:
    """Returns the most memory that this process ever held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
