"""A training goes on from an earlier model, or starts anew."""

import numpy as np
import pytest

from keras_moe.calibration import DeferralRule
from keras_moe.models import Cascade
from keras_moe.models import SwitchTransformer
from keras_moe.weights import named_weights
from pipelines.g2p.modules import warm_start

pytestmark = pytest.mark.tfx


@pytest.fixture
def earlier(monkeypatch):
    model = SwitchTransformer.from_preset("switch_tiny")
    for weight in model.weights:
        weight.assign(np.random.normal(size=weight.shape))
    monkeypatch.setattr(warm_start, "load_teacher", lambda directory: model)
    return model


def values(model):
    return {name: np.array(v) for name, v in named_weights(model).items()}


def test_weights_of_an_earlier_model(earlier, tmp_path):
    model = SwitchTransformer.from_preset("switch_tiny", name="another")
    before = values(model)
    assert warm_start.start_from(model, str(tmp_path))
    given = values(earlier)
    for name, value in values(model).items():
        # Random numbers are the new training's own.
        expected = before if "seed_generator" in name else given
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_the_student_of_an_earlier_cascade(earlier, tmp_path, monkeypatch):
    other = SwitchTransformer.from_preset("switch_tiny", num_experts=0)
    rule = DeferralRule("tokens", threshold=0.5)
    cascade = Cascade([earlier, other], rule)
    monkeypatch.setattr(warm_start, "load_teacher", lambda directory: cascade)
    model = SwitchTransformer.from_preset("switch_tiny")
    assert warm_start.start_from(model, str(tmp_path))
    np.testing.assert_array_equal(model.weights[0], earlier.weights[0])


def test_an_earlier_model_of_another_kind(earlier, tmp_path):
    model = SwitchTransformer.from_preset("switch_tiny", num_experts=2)
    before = values(model)
    assert not warm_start.start_from(model, str(tmp_path))
    assert not warm_start.start_from(model, None)
    assert not warm_start.start_from(model, str(tmp_path / "missing"))
    low = SwitchTransformer.from_preset("switch_tiny", dtype="bfloat16")
    with pytest.raises(ValueError, match="bfloat16 .*is .* float32"):
        warm_start.start_from(low, str(tmp_path))
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
