import keras_tuner
import numpy as np
import pytest

from pipelines.modules.tuner import TeacherSpace
from tests.pipelines.modules.training_test import pairs

pytestmark = [pytest.mark.tfx, pytest.mark.large]


def test_trials_differ_and_the_best_is_found(tmp_path):
    space = TeacherSpace(
        {
            "preset": "switch_tiny",
            "keep_stress": False,
            "training": {"steps": 40, "batch_size": 8, "seed": 0},
        },
        pairs(),
        pairs(seed=1),
    )
    tuner = keras_tuner.RandomSearch(
        space,
        objective=keras_tuner.Objective("val_loss", "min"),
        max_trials=2,
        seed=0,
        directory=tmp_path,
    )
    tuner.search()
    scores = [t.score for t in tuner.oracle.get_best_trials(2)]
    assert len(set(scores)) == 2 and np.isfinite(scores).all()
    values = tuner.get_best_hyperparameters()[0].values
    assert set(values) == {"peak_learning_rate", "label_smoothing"}
    assert scores[0] == min(scores)
