"""Some updates of the demo's teacher in a process of its own: prints JSON.

python -m benchmarks.allocator.program STEPS
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import json
import resource
import statistics
import time

import keras
import numpy as np

from keras_moe import losses
from keras_moe import ops
from pipelines.g2p.modules import presets
from pipelines.g2p.modules import text
from pipelines.g2p.modules.training_config import TrainingConfig

_LENGTH = 16
_WARM_UP = 5


def main() -> None:
    """Trains, and prints what a step took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", type=int, help="that are timed")
    steps = parser.parse_args().steps
    keras.utils.set_random_seed(0)
    model = presets.from_preset(
        "switch_g2p_demo",
        vocabulary_size=text.SOURCE_VOCABULARY_SIZE,
        target_vocabulary_size=text.target_vocabulary_size(),
    )
    model.compile("adam", losses.token_crossentropy)
    shape = (TrainingConfig().batch_size, _LENGTH)
    draw = np.random.default_rng(0).integers
    source = draw(2, text.SOURCE_VOCABULARY_SIZE, shape)
    target = draw(2, text.target_vocabulary_size(), shape)
    inputs = {
        "encoder_token_ids": source,
        "decoder_token_ids": np.asarray(ops.shift_right(target)),
    }
    times, before = [], 0
    for step in range(_WARM_UP + steps):
        if step == _WARM_UP:
            before = _page_faults()
        began = time.perf_counter()
        model.train_on_batch(inputs, target)
        times.append(time.perf_counter() - began)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "step_ms": 1e3 * statistics.median(times[_WARM_UP:]),
                "page_faults_a_step": (_page_faults() - before) / steps,
                "peak_mib": used.ru_maxrss / 1024,
            }
        )
    )


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


if __name__ == "__main__":
    main()
