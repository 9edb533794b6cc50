"""Program: measures what a layer costs each device of a mesh.

    python -m benchmarks.sharding.traffic FOLDER BATCH EXPERT NUM_EXPERTS...

Compiles the forward pass of a `SparseMoE` for each number of experts, and
prints figures as JSON. It must be started with the environment of
`benchmarks.sharding.collectives`.
"""

import json
import sys

import keras
import numpy as np

from benchmarks.sharding.collectives import read_collectives
from benchmarks.sharding.collectives import read_result_bytes
from benchmarks.sharding.losses import expert_bytes
from benchmarks.sharding.program import make_devices
from keras_moe import distribution
from keras_moe.layers import SparseMoE
from keras_moe.layers import SwitchRouter

DIM, HIDDEN_DIM = 64, 128
ROWS, LENGTH, GROUP_SIZE = 16, 64, 128


def measure(
    folder: str, engine: distribution.DTensorEngine, num_experts: int
) -> dict[str, float]:
    """Returns the figures of one layer."""
    router = SwitchRouter(num_experts=num_experts, group_size=GROUP_SIZE)
    layer = SparseMoE(num_experts, HIDDEN_DIM, router=router)
    inputs = keras.Input((LENGTH, DIM))
    model = keras.Model(inputs, layer(inputs))
    engine.distribute(model)
    forward = engine.function(lambda x: model(x, training=True))
    forward(engine.batch(np.ones((ROWS, LENGTH, DIM), "float32")))
    collectives = read_collectives(folder, engine.axis_sizes)
    exchanges = [c for c in collectives if c.name == "AllToAll"]
    devices = engine.device_mesh.devices.size
    groups = ROWS * LENGTH // GROUP_SIZE
    capacity = router.expert_capacity(GROUP_SIZE, training=True)
    along = engine.axis_sizes["expert"]
    ideal = groups * num_experts * capacity * DIM * 4 * 2 * (along - 1) / along
    largest, whole = expert_bytes(model)
    return {
        "devices": devices,
        "num_experts": num_experts,
        "all_to_all": len(exchanges),
        "exchange_bytes": devices * sum(c.bytes_sent for c in exchanges),
        "ideal_exchange_bytes": ideal,
        "other_bytes": devices
        * sum(c.bytes_sent for c in collectives if c.name != "AllToAll"),
        "weight_bytes": largest,
        "all_weight_bytes": whole,
        "activation_bytes": read_result_bytes(folder),
    }


def main(folder: str, *numbers: str) -> None:
    """Measures, and prints."""
    batch, expert, *counts = map(int, numbers)
    make_devices()
    mesh = distribution.device_mesh(batch, expert)
    engine = distribution.engine(mesh)
    print(json.dumps([measure(folder, engine, count) for count in counts]))


if __name__ == "__main__":
    main(*sys.argv[1:])
