import types

import numpy as np
import pytest

from pipelines.g2p.modules import tuner as tuner_module
from pipelines.g2p.modules.batches import array_pairs
from tests.pipelines.g2p.modules.training_test import pairs

pytestmark = [pytest.mark.tfx, pytest.mark.large]

TRAINING = {"steps": 40, "batch_size": 8, "seed": 0}


@pytest.fixture
def tuner(tmp_path, monkeypatch):
    """The one of the pipeline, on a few pairs."""
    splits = {"train": pairs(), "eval": pairs(seed=1)}
    monkeypatch.setattr(
        tuner_module,
        "stream_pairs",
        lambda split, seed=None: array_pairs(*splits[split], seed),
    )
    options = {
        "preset": "switch_tiny",
        "keep_stress": False,
        "training": TRAINING,
        "trials": 2,
    }
    fn_args = types.SimpleNamespace(
        custom_config=options,
        train_files="train",
        eval_files="eval",
        working_dir=str(tmp_path),
    )
    return tuner_module.tuner_fn(fn_args).tuner


def test_trials_differ_and_the_best_is_found(tuner):
    tuner.search()
    scores = [t.score for t in tuner.oracle.get_best_trials(2)]
    assert len(set(scores)) == 2 and np.isfinite(scores).all()
    values = tuner.get_best_hyperparameters()[0].values
    assert set(values) == {"peak_learning_rate", "label_smoothing"}
    assert scores[0] == min(scores)


def test_a_trial_that_fails_is_not_passed_over(tuner, monkeypatch):
    def train(*args, **kwargs):
        raise ValueError("the loss is not a number")

    monkeypatch.setattr(tuner_module.training, "train", train)
    with pytest.raises(RuntimeError, match="the loss is not a number"):
        tuner.search()
