"""A rule and its threshold for two models that generate, one exiting early."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_moe.calibration import NotCertifiedError
from keras_moe.generation import EarlyExitPolicy
from keras_moe.models import SwitchTransformer

pytest.importorskip("tfx")

from keras_moe.components import CalibrationTask
from keras_moe.components.training._certify_cascade import CascadeCertifier

pytestmark = pytest.mark.tfx

_SIZES = {"num_experts": 0, "num_encoder_layers": 1, "num_decoder_layers": 2}
_POLICY = EarlyExitPolicy("softmax", threshold=0.05)
_SETTINGS = {
    "kind": "tokens",
    "target": "confidence",
    "seed": 0,
    "shares": [0.1, 0.3, 0.5],
    "tolerance": None,
    "budget": 0.45,
    "confidence_level": 0.95,
    "correction": "fixed_sequence",
    "max_length": 4,
    "early_exits": [dataclasses.asdict(_POLICY), None],
    "batch_sizes": [8],
}


@pytest.fixture(scope="module")
def stages():
    keras.utils.set_random_seed(0)
    return tuple(
        SwitchTransformer.from_preset("switch_tiny", **_SIZES) for _ in range(2)
    )


def _task(seed, rows=300):
    """Right is the token that the source begins with."""
    sources = np.random.default_rng(seed).integers(2, 32, (rows, 5))

    def loss(answers, labels):
        return np.mean(np.asarray(answers["token_ids"]) % 7 != labels, axis=1)

    return CalibrationTask(sources, loss, None, sources[:, :1] % 7)


@pytest.mark.usefixtures("functions_run_eagerly")
def test_the_certificate_is_of_the_cascade_that_is_served(stages):
    certifier = CascadeCertifier(stages, _SETTINGS)
    rule, thresholds = certifier.fit(_task(0))
    assert rule.kind == "tokens" and rule.report.n == 300
    # From the greatest share that the rule may defer to the least.
    assert thresholds == sorted(thresholds) and len(thresholds) == 3
    task = _task(1)
    cascade, certificate = certifier.certify(task, rule, thresholds)
    answer = cascade.generate(task.inputs, 4)
    stage = np.asarray(answer["stage"])
    # The share of deferred rows, by a student that exits early.
    chosen = certificate.thresholds.index(certificate.threshold)
    assert certificate.risks[chosen] == pytest.approx(stage.mean())
    low, high = certificate.policy["deferral_share"]
    assert low < stage.mean() < high == 0.45
    early = stages[0].generate(task.inputs, 4, early_exit=_POLICY)
    kept = stage == 0
    np.testing.assert_array_equal(
        answer["token_ids"][kept], early["token_ids"][kept]
    )


@pytest.mark.usefixtures("functions_run_eagerly")
def test_nothing_is_granted_that_is_not_shown(stages):
    certifier = CascadeCertifier(
        stages, {**_SETTINGS, "budget": None, "tolerance": 0.01}
    )
    rule, thresholds = certifier.fit(_task(0))
    with pytest.raises(NotCertifiedError):
        certifier.certify(_task(1), rule, thresholds)


def test_a_policy_that_does_not_fit_a_stage_is_refused(stages):
    late = dataclasses.asdict(EarlyExitPolicy(min_exit_layer=9))
    certifier = CascadeCertifier(
        stages, {**_SETTINGS, "early_exits": [late, None]}
    )
    with pytest.raises(ValueError, match="`min_exit_layer` must be at most"):
        certifier.fit(_task(0))
    with pytest.raises(ValueError, match="`early_exits` must be"):
        CascadeCertifier(stages, {**_SETTINGS, "early_exits": [None]})
