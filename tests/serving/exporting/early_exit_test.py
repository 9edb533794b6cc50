import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_moe import serving
from keras_moe.calibration import Certificate
from keras_moe.calibration import calibrate
from keras_moe.calibration import exit_policy
from keras_moe.generation import EarlyExitPolicy
from keras_moe.weights import fingerprint
from tests.generation.talkative_model import talkative_model

MAX_LENGTH = 6
CERTIFIED = 0.8
POLICY = EarlyExitPolicy("softmax", threshold=0.1)
WORDS = ["hi", "keras", "", "exit early", "q"]
NEVER, ALWAYS = 1.5, -1.0


def tokenize(words):
    letters = tf.strings.unicode_decode(words, "UTF-8").to_tensor(0)
    return {"encoder_token_ids": letters % 32}


def detokenize(ids):
    return tf.strings.reduce_join(
        tf.strings.as_string(ids), axis=1, separator=" "
    )


def certify(model, policy=POLICY, max_length=MAX_LENGTH):
    return calibrate(
        np.zeros((200, 2)),
        [0.9, CERTIFIED],
        tolerance=0.05,
        policy=exit_policy(policy, max_length),
        fingerprint=fingerprint(model),
    )


def write(model, directory, **options):
    serving.export(
        model,
        directory,
        tokenize,
        detokenize,
        MAX_LENGTH,
        **{"early_exit": POLICY, **options},
    )


def export(model, directory, **options):
    write(model, directory, **options)
    return tf.saved_model.load(directory).signatures


@pytest.fixture(scope="module")
def model():
    return talkative_model(num_encoder_layers=1, num_decoder_layers=2)


@pytest.fixture(scope="module")
def certified(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("certified") / "1"
    write(
        model,
        directory,
        certificate=certify(model),
        assets={"notes.txt": lambda path: path.write_text("kept")},
    )
    return directory


@pytest.fixture(scope="module")
def signatures(certified):
    return tf.saved_model.load(certified).signatures


def ask(signatures, thresholds, words=WORDS):
    return signatures["with_threshold"](
        inputs=tf.constant(words), threshold=tf.constant(thresholds, tf.float32)
    )


def generate(model, threshold, words=WORDS):
    return model.generate(
        tokenize(tf.constant(words))["encoder_token_ids"],
        MAX_LENGTH,
        early_exit=dataclasses.replace(POLICY, threshold=threshold),
    )


def assert_same(served, generated):
    np.testing.assert_array_equal(served["token_ids"], generated["token_ids"])
    np.testing.assert_array_equal(served["exit_layer"], generated["exit_layer"])
    np.testing.assert_allclose(
        served["confidence"], generated["confidence"], atol=1e-5
    )


def test_serves_what_python_says_at_the_certified_threshold(model, signatures):
    served = signatures["serving_default"](inputs=tf.constant(WORDS))
    generated = generate(model, CERTIFIED)
    assert_same(served, generated)
    depths = np.unique(served["exit_layer"])
    assert len(depths) > 2  # padding, and tokens of several layers
    assert served["exit_layer"].dtype == tf.int32
    assert served["confidence"].dtype == tf.float32
    np.testing.assert_array_equal(
        np.array(served["exit_layer"]) > 0, np.array(served["token_ids"]) > 0
    )


def test_threshold_of_each_row(model, signatures):
    thresholds = [NEVER, 0.95, CERTIFIED, 0.9, NEVER]
    served = ask(signatures, thresholds)
    for row, threshold in enumerate(thresholds):
        alone = generate(model, threshold, WORDS[row : row + 1])
        for name in ("token_ids", "exit_layer"):
            np.testing.assert_array_equal(served[name][row], alone[name][0])


def test_one_threshold_for_all(model, signatures):
    assert_same(ask(signatures, [0.95]), generate(model, 0.95))


def test_client_cannot_go_below_the_certificate(model, signatures):
    expected = generate(model, CERTIFIED)
    assert_same(ask(signatures, [ALWAYS] * len(WORDS)), expected)
    # There is something to protect.
    lower = generate(model, ALWAYS)["exit_layer"]
    assert np.max(lower) == 1 < np.max(expected["exit_layer"])


def test_not_a_number_exits_never(signatures):
    served = ask(signatures, [np.nan] * len(WORDS))
    assert set(np.unique(served["exit_layer"])) == {0, 2}


def test_wrong_number_of_thresholds_is_refused(signatures):
    with pytest.raises(tf.errors.InvalidArgumentError):
        ask(signatures, [0.9, 0.9])


def test_export_may_allow_less(model, tmp_path):
    signatures = export(
        model,
        tmp_path / "1",
        certificate=certify(model),
        allow_lower_threshold=True,
    )
    served = ask(signatures, [ALWAYS] * len(WORDS))
    assert_same(served, generate(model, ALWAYS))


def test_certificate_goes_along(certified, model):
    path = certified / "assets.extra" / "certificate.json"
    assert Certificate.load(path) == certify(model)
    assert json.loads(path.read_text())["threshold"] == CERTIFIED


def test_assets_go_along_with_the_certificate(certified):
    extra = certified / "assets.extra"
    assert {path.name for path in extra.iterdir()} == {
        "certificate.json",
        "notes.txt",
    }


def test_graph_is_pure(certified):
    graph = saved_model_pb2.SavedModel()
    graph.ParseFromString((certified / "saved_model.pb").read_bytes())
    functions = {
        f.signature.name: f
        for f in graph.meta_graphs[0].graph_def.library.function
    }
    wanted = [name for name in functions if "answer" in name]
    assert wanted
    seen = set()
    while wanted:
        name = wanted.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            assert "Assign" not in node.op, node.name
            for attribute in node.attr.values():
                wanted.append(attribute.func.name)
                wanted.extend(f.name for f in attribute.list.func)


def test_refuses_another_model(model, tmp_path):
    certificate = certify(model)
    other = talkative_model(2, num_encoder_layers=1, num_decoder_layers=2)
    with pytest.raises(ValueError, match="fingerprint was"):
        export(other, tmp_path / "1", certificate=certificate)
    assert not (tmp_path / "1").exists()


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (EarlyExitPolicy("state"), "confidence"),
        (EarlyExitPolicy(min_exit_layer=2), "min_exit_layer"),
        (EarlyExitPolicy(propagation="eager"), "propagation"),
    ],
)
def test_refuses_another_policy(model, tmp_path, policy, field):
    with pytest.raises(ValueError, match=f"policy.{field} was"):
        export(
            model,
            tmp_path / "1",
            early_exit=policy,
            certificate=certify(model),
        )
    assert not (tmp_path / "1").exists()


def test_refuses_another_length(model, tmp_path):
    certificate = certify(model, max_length=MAX_LENGTH + 1)
    with pytest.raises(ValueError, match="policy.max_length was 7, is 6"):
        export(model, tmp_path / "1", certificate=certificate)


def test_certificate_needs_a_policy(model, tmp_path):
    with pytest.raises(ValueError, match="early_exit=None"):
        export(
            model,
            tmp_path / "1",
            early_exit=None,
            certificate=certify(model),
        )


def test_without_certificate_the_policy_is_the_floor(model, tmp_path):
    policy = dataclasses.replace(POLICY, threshold=CERTIFIED)
    signatures = export(model, tmp_path / "1", early_exit=policy)
    expected = generate(model, CERTIFIED)
    served = signatures["serving_default"](inputs=tf.constant(WORDS))
    assert_same(served, expected)
    assert_same(ask(signatures, [ALWAYS]), expected)
    assert not (tmp_path / "1" / "assets.extra").exists()
