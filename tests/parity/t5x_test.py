"""Checkpoints in T5X's format, by its libraries, loaded by us.

They are written, and their logits computed, by JAX in an environment of its
own that is made when it is first needed: 0.6 GB.
"""

import json
import os

import numpy as np
import pytest

from benchmarks.shared import environment
from keras_moe import conversion

pytestmark = pytest.mark.large

T5 = {
    "words": 60,
    "dim": 16,
    "heads": 3,
    "key_dim": 8,
    "hidden": 24,
    "buckets": 32,
    "layers": {"encoder": 4, "decoder": 2},
    "experts": 0,
    "every": 2,
    "gated": False,
    "tied": True,
    "dtype": "float32",
}
NEW = T5 | {"gated": True, "tied": False}
CASES = {
    "t5": T5,
    "t5_1_1": NEW,
    "t5_near": NEW | {"buckets": 8},
    "bfloat16": NEW | {"dtype": "bfloat16"},
    "switch": T5 | {"experts": 5},
    "switch_everywhere": T5 | {"experts": 4, "every": 1},
    "tokens_choose": NEW | {"experts": 4},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    rng = np.random.default_rng(0)
    source = rng.integers(2, 60, (40, 30))
    for row, length in enumerate(rng.integers(1, 31, 40)):
        source[row, length:] = 0
    target = rng.integers(2, 60, (40, 17))
    target[:, 0] = 0
    np.savez(root / "inputs.npz", source=source, target=target)
    for name in CASES:
        (root / name).mkdir()
    (root / "cases.json").write_text(json.dumps(CASES))
    python = environment.make("t5x")
    program = environment.ROOT / "tests/parity/t5x_program.py"
    environment.run([python, program, root], os.environ)
    return root


@pytest.mark.parametrize("name", CASES)
def test_logits_are_equal(name, folder):
    model = conversion.load_t5x(folder / name)
    given = np.load(folder / "inputs.npz")
    logits = model(
        {
            "encoder_token_ids": given["source"],
            "decoder_token_ids": given["target"],
        }
    )
    theirs = np.load(folder / f"{name}.npy")
    np.testing.assert_allclose(
        logits, theirs, rtol=1e-4, atol=1e-4, err_msg=name
    )
