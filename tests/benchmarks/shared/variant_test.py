"""A model of the dictionary goes on where it was killed."""

import numpy as np
import pytest

from benchmarks.shared import variant
from benchmarks.shared.variant import Variant
from pipelines.g2p.modules import training

WORDS = [("cat", ("K AE T",)), ("read", ("R IY D", "R EH D"))] * 8
SPLITS = {"train": WORDS, "validation": WORDS[:2]}


class Killed(BaseException):
    """What a kill is to the process that trains."""


def make_variant(folder, steps=5):
    config = training.TrainingConfig(steps=steps, batch_size=4, max_minutes=0.0)
    small = {
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "model_dim": 16,
        "hidden_dim": 16,
        "num_heads": 2,
        "num_experts": 2,
        "moe_every": 1,
    }
    return Variant("small", small, config, 0.1, folder)


@pytest.mark.large
def test_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(variant, "_STEPS_PER_TURN", 2)
    whole = make_variant(tmp_path / "whole")
    whole.train(SPLITS)

    killed = make_variant(tmp_path)

    def kill():
        if killed.step == 4:
            raise Killed

    with pytest.raises(Killed):
        killed.train(SPLITS, on_point=kill)
    turns = []
    again = make_variant(tmp_path)
    again.train(SPLITS, on_point=lambda: turns.append(again.step))
    kept = make_variant(tmp_path)

    # The kill came before the checkpoint of the second turn.
    assert turns == [4, 5] and kept.step == 5
    assert kept.curve == again.curve
    for one, *others in zip(
        whole.model.weights,
        again.model.weights,
        kept.model.weights,
        strict=True,
    ):
        for other in others:
            np.testing.assert_array_equal(one, other)
    assert not list(tmp_path.glob("*/checkpoint-*"))
    assert make_variant(tmp_path, steps=6).step == 0
