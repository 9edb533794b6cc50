"""Whole layers against their peers', outputs and gradients.

The peers run in environments of their own, which are made when they are first
needed: from a package registry, 2 and 5 GB.
"""

import subprocess

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.shared import environment
from keras_moe.layers import ExpertChoiceRouter
from keras_moe.layers import SparseMoE
from keras_moe.layers import SwitchRouter

pytestmark = pytest.mark.large
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
BATCH, LENGTH, DIM, HIDDEN, EXPERTS = 3, 32, 16, 32, 4
# Of 8 on average, so that some tokens are dropped.
CAPACITY = 7
DISPATCH = ("einsum", "gather", "ragged")


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(5)

    def normal(*shape):
        return generator.normal(size=shape).astype("float32")

    return {
        "tokens": normal(BATCH, LENGTH, DIM),
        "gradient": normal(BATCH, LENGTH, DIM),
        "kernel": normal(DIM, EXPERTS),
        "wi": normal(EXPERTS, DIM, HIDDEN) / DIM**0.5,
        "wo": normal(EXPERTS, HIDDEN, DIM) / HIDDEN**0.5,
        "capacity": np.array(CAPACITY),
    }


def run_peer(name, folder) -> dict[str, np.ndarray]:
    python = environment.make(name)
    source, target = folder / "given.npz", folder / "answer.npz"
    np.savez(source, **arrays())
    subprocess.run(
        [python, "-m", f"tests.parity.{name}_program", source, target],
        cwd=environment.ROOT,
        check=True,
    )
    return dict(np.load(target))


def run_ours(router, dispatch, **arguments) -> dict[str, np.ndarray]:
    given = arrays()
    layer = SparseMoE(
        EXPERTS, HIDDEN, router=router, dispatch=dispatch, **arguments
    )
    tokens = tf.constant(given["tokens"])
    layer.build(tokens.shape)
    weights = {
        "kernel": layer.router.kernel,
        "wi": layer.experts.inner.kernel,
        "wo": layer.experts.outer.kernel,
    }
    for name, weight in weights.items():
        weight.assign(given[name])
    values = {name: weight.value for name, weight in weights.items()}
    with tf.GradientTape() as tape:
        tape.watch(tokens)
        outputs = layer(tokens, training=True)
    gradients = tape.gradient(
        outputs, {"tokens": tokens, **values}, given["gradient"]
    )
    return {"outputs": outputs, **gradients}


def assert_same(ours, theirs):
    assert set(ours) == set(theirs)
    for name in ours:
        np.testing.assert_allclose(
            ours[name], theirs[name], err_msg=name, **TOLERANCE
        )


def common() -> dict:
    return {
        "capacity_factor": CAPACITY * EXPERTS / LENGTH,
        "min_expert_capacity": 1,
        "capacity_rounding": "nearest",
        "group_size": LENGTH,
        "jitter_noise": 0.0,
        "router_z_loss_weight": 0.0,
    }


def test_transformers(tmp_path):
    theirs = run_peer("transformers", tmp_path)
    dropped = (theirs["outputs"] == 0.0).all(axis=-1)
    assert dropped.any() and not dropped.all()
    for dispatch in DISPATCH:
        router = SwitchRouter(load_balancing_loss_weight=0.0, **common())
        assert_same(run_ours(router, dispatch), theirs)


def test_tf_models_official(tmp_path):
    theirs = run_peer("tf_models", tmp_path)
    for dispatch in DISPATCH:
        router = ExpertChoiceRouter(**common())
        assert_same(run_ours(router, dispatch), theirs)
