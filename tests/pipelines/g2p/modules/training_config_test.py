import math

import pytest

from pipelines.g2p.modules.training_config import TrainingConfig


@pytest.mark.parametrize(
    "field, value, rule",
    [
        ("steps", 0, "must be a positive integer"),
        ("steps", 2.5, "must be a positive integer"),
        ("min_steps", 0, "must be a positive integer"),
        ("min_steps", 3601, "must be at most `steps`"),
        ("batch_size", -1, "must be a positive integer"),
        ("peak_learning_rate", 0, "must be positive"),
        ("peak_learning_rate", math.nan, "must be positive"),
        ("peak_learning_rate", math.inf, "must be finite"),
        ("warmup", 5, r"must be in \[0, 1\)"),
        ("warmup", -0.1, r"must be in \[0, 1\)"),
        ("warmup", math.nan, r"must be in \[0, 1\)"),
        ("max_minutes", -1, "must not be negative"),
        ("max_minutes", math.nan, "must not be negative"),
        ("max_minutes", math.inf, "must be finite"),
        ("label_smoothing", 2, r"must be in \[0, 1\)"),
        ("label_smoothing", math.nan, r"must be in \[0, 1\)"),
        ("weight_decay", -1, "must not be negative"),
        ("weight_decay", math.nan, "must not be negative"),
        ("seed", -1, "must be an integer"),
    ],
)
def test_values_outside_their_range_are_refused(field, value, rule):
    with pytest.raises(ValueError, match=f"`{field}` {rule}.*{field}="):
        TrainingConfig(**{field: value})


def test_the_limits_are_inside():
    TrainingConfig(warmup=0, max_minutes=0, label_smoothing=0, weight_decay=0)
    assert TrainingConfig(steps=7, min_steps=7).min_steps == 7


def test_shortened_is_the_same_training_in_less_time():
    config = TrainingConfig(steps=3600, min_steps=1200, max_minutes=7, seed=3)
    half = config.shortened(0.5)
    assert (half.steps, half.min_steps, half.max_minutes) == (1800, 600, 3.5)
    assert half.seed == 3 and config.shortened(1.0) == config
    least = TrainingConfig(steps=3, min_steps=3).shortened(0.01)
    assert (least.steps, least.min_steps) == (1, 1)
