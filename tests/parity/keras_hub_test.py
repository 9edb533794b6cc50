"""Backbones of KerasHub, made sparse.

They run in a process of their own, with KerasHub from an environment that is
made when it is first needed (and holds nothing else than what it needs beside
ours).
"""

import json
import os
import sys

import pytest

from benchmarks.shared import environment

pytestmark = pytest.mark.large

BACKBONES = ["BertBackbone", "RobertaBackbone", "T5Backbone"]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    python = environment.make("keras_hub")
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    paths = [os.environ.get("PYTHONPATH"), str(packages)]
    printed = environment.run(
        [
            sys.executable,
            environment.ROOT / "tests/parity/keras_hub_program.py",
            tmp_path_factory.mktemp("models"),
        ],
        {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(environment.ROOT), *filter(None, paths)]
            ),
        },
    )
    (line,) = [x for x in printed.splitlines() if x.startswith("REPORT")]
    return json.loads(line.removeprefix("REPORT"))


@pytest.mark.parametrize("name", BACKBONES)
def test_the_first_outputs_are_the_dense_models(said, name):
    assert said[name]["largest"] > 0.1
    assert said[name]["difference"] < 1e-5


@pytest.mark.parametrize("name", BACKBONES)
def test_every_block_can_be_sparse(said, name):
    blocks = 4 if name == "T5Backbone" else 2
    assert len(said[name]["sites"]) == blocks
    assert said[name]["losses"] >= blocks
    causal = [n for n, is_causal in said[name]["sites"].items() if is_causal]
    assert all("decoder" in block for block in causal)
    assert len(causal) == (2 if name == "T5Backbone" else 0)


@pytest.mark.parametrize("name", BACKBONES)
def test_it_trains_and_saves(said, name):
    before, after = said[name]["trained"]
    assert after < before
    assert said[name]["reloaded"] == 0.0


def test_what_is_not_taken(said):
    """Llama's blocks have the same attributes, and gate otherwise."""
    assert "is not known" in said["LlamaBackbone"]["skipped"]
    assert not said["LlamaBackbone"]["sites"]
