import types

import numpy as np
import pytest

from pipelines.g2p.modules import routing
from pipelines.g2p.modules import text
from tests.pipelines.g2p.modules.transformed_test import words
from tests.pipelines.g2p.modules.transformed_test import write

pytestmark = pytest.mark.tfx


def sample(tmp_path):
    args = types.SimpleNamespace(example_files=[str(tmp_path / "*.gz")])
    return routing.teacher_inputs(args)


def test_a_sample_is_random_and_always_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(routing, "_PAIRS", 200)
    names = words(1000)
    write(tmp_path / "part-0.gz", names, ["AH|B"] * 1000)
    inputs = sample(tmp_path)
    ids = inputs["encoder_token_ids"]
    assert ids.shape == (200, text.SOURCE_LENGTH)
    shifted = inputs["decoder_token_ids"]
    assert shifted.shape == (200, text.MAX_PHONEMES)
    assert (shifted[:, 0] == text.PAD_ID).all()
    pairs = [
        (*x, *y) for x, y in zip(ids.tolist(), shifted.tolist(), strict=True)
    ]
    assert len(set(pairs)) == 200
    # Each half of the file has its share, in no order.
    letters = ids[:, :3] - text.FIRST_ID
    places = letters @ np.array([26 * 26, 26, 1])
    assert 75 < (places < 500).sum() < 125
    assert 0.4 < (np.diff(places) > 0).mean() < 0.6
    again = sample(tmp_path)
    assert all((inputs[name] == again[name]).all() for name in inputs)


def test_fewer_pairs_than_wanted_are_all_taken(tmp_path):
    write(tmp_path / "part-0.gz", words(10), ["AH|B"] * 10)
    assert len(sample(tmp_path)["encoder_token_ids"]) == 20
