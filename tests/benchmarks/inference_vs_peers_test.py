import json

import numpy as np
import pytest

from benchmarks.inference_vs_peers.__main__ import main
from benchmarks.inference_vs_peers.cases import CASES
from benchmarks.inference_vs_peers.claims import add_agreement
from benchmarks.inference_vs_peers.claims import add_case
from benchmarks.inference_vs_peers.least_reading import least_bytes
from benchmarks.inference_vs_peers.least_reading import least_seconds
from benchmarks.inference_vs_peers.task import Task
from benchmarks.inference_vs_peers.task import read_task
from benchmarks.inference_vs_peers.time_ours import count_excused
from benchmarks.shared.report import Report
from keras_moe.models import SwitchTransformer


def turn(seconds, **figures):
    return {
        "tokens": 64,
        "seconds": {"1": [0.064 * s for s in seconds], "8": [0.64]},
        **figures,
    }


def test_claims():
    report = Report("test")
    same = {"logit_difference": {"1": 2e-5, "8": 3e-5}, "excused": {"1": 0}}
    same["least_seconds"] = 0.001
    # The better number of threads counts, of each engine.
    ours = {2: [turn([1.0, 9.0, 2.0], **same)], 1: [turn([4.0], **same)]}
    theirs = {2: [turn([30.0]), turn([10.0])], 1: [turn([8.0])]}
    for case in CASES:
        add_case(report, case, ours, theirs)
    add_agreement(report, [ours])
    claims = {claim.name: claim for claim in report.claims}
    assert sorted(claims) == [
        "max_logit_difference",
        "over_ctranslate2_b1",
        "over_ctranslate2_b8",
        "speedup_b1_e64",
        "speedup_b1_e8",
        "speedup_b8_e8",
    ]
    assert claims["speedup_b1_e8"].value == pytest.approx(4.0)
    assert claims["over_ctranslate2_b1"].value == pytest.approx(0.25)
    assert claims["max_logit_difference"].value == 3e-5
    assert report.figures["ours_ms_a_token_b1_e8_t2"] == pytest.approx(2.0)
    assert report.figures["floor_ms_a_token_b1_e8_t1"] == pytest.approx(1.0)


def test_a_token_reads_one_expert_and_no_projection_of_the_source():
    model = SwitchTransformer(
        vocabulary_size=10,
        model_dim=4,
        num_heads=2,
        hidden_dim=6,
        num_experts=3,
        num_encoder_layers=2,
        num_decoder_layers=2,
    )
    kernels = 2 * (6 * 4 * 4 + 2 * 4 * 6)
    others = 4 * 3 + 32 * 2 + 7 * 4  # the router, distances and norms
    assert least_bytes(model) == 4 * (kernels + others + 10 * 4)
    assert least_seconds(model) > 0


def test_rows_may_part_at_a_tie_alone():
    logits = np.zeros((1, 3, 4), "float32")
    logits[0, 1] = [0.0, 1.0, 1.00005, 0.5]
    theirs = np.array([[1, 2, 0]])
    assert count_excused(theirs, theirs, logits) == 0
    # After the tie the rows say what they like.
    assert count_excused(np.array([[1, 1, 3]]), theirs, logits) == 1
    with pytest.raises(RuntimeError, match="Row 0 parts at token 1"):
        count_excused(np.array([[1, 3, 0]]), theirs, logits)


def test_task_is_read_as_it_was_given(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"vocab_size": 9}')
    task = Task(tmp_path, tmp_path / "answers", 2, 3, (1, 8), tokens=5)
    monkeypatch.setattr("sys.argv", ["program", *task.arguments()])
    assert read_task() == task
    assert task.answers_of(8) == tmp_path / "answers_b8.npz"
    assert set(np.unique(task.sources(8))) == set(range(3, 9))


@pytest.mark.large
def test_small_models_agree_with_both_peers(tmp_path):
    path = tmp_path / "figures.json"
    given = "--small --rounds 1 --turns 1 --threads 1 --json".split()
    main([*given, str(path)])
    claims = {c["name"]: c for c in json.loads(path.read_text())["claims"]}
    assert claims["max_logit_difference"]["holds"]
    assert claims["speedup_b8_e8_small"]["value"] > 0.0
