"""A cascade in its own SavedModel: compiled or not, whoever defers."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.calibration import DeferralRule
from keras_moe.calibration import calibrate_cascade
from keras_moe.generation import decode
from keras_moe.models import Cascade
from keras_moe.models import SwitchTransformer
from keras_moe.serving import export
from keras_moe.serving import export_endpoints
from keras_moe.serving.server._servable import Servable
from keras_moe.serving.versions._certification import read_certification

_SIZES = {"num_experts": 0, "num_encoder_layers": 1, "num_decoder_layers": 1}
LENGTH = 4


def tokenize(texts):
    ids = tf.strings.split(texts, " ").to_tensor("0")
    return {"encoder_token_ids": tf.strings.to_number(ids, tf.int32)}


@pytest.fixture(scope="module")
def cascade():
    keras.utils.set_random_seed(0)
    stages = [SwitchTransformer.from_preset("switch_tiny", **_SIZES)]
    stages += [SwitchTransformer.from_preset("switch_tiny", **_SIZES)]
    for stage in stages:
        stage.generate([[5, 6]], 2)
    rule = DeferralRule("tokens")
    scores = rule.scores(decode(stages[0], sources(), LENGTH))
    # Between two scores, so that rounding of XLA decides nothing.
    middle = np.sort(scores)[5:7].mean()
    rule = dataclasses.replace(rule, threshold=float(middle))
    return Cascade(stages, rule, batch_sizes=(1,))


def sources():
    return np.random.default_rng(1).integers(2, 32, (12, 6)).astype("int32")


@pytest.fixture(scope="module")
def servable(cascade, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cascade") / "1"
    export(
        cascade,
        folder,
        tokenize=tokenize,
        detokenize=lambda ids: tf.strings.reduce_join(
            tf.strings.as_string(ids), axis=1, separator=" "
        ),
        max_length=LENGTH,
        # Of two rows one is deferred, or both: each is a program to compile.
        batch_sizes=(2,),
        lengths=(8,),
    )
    served = Servable(folder, 1)
    yield served
    served.close()


@pytest.fixture(scope="module")
def plain(cascade):
    return cascade.generate(sources(), LENGTH, jit_compile=False)


def ask(servable, texts, signature):
    array = np.array([text.encode() for text in texts], object)
    return servable.run({"inputs": array}, signature)


# XLA compiles for a quarter of a minute.
@pytest.mark.large
@pytest.mark.parametrize("signature", ["serving_default", "compiled"])
@pytest.mark.parametrize(
    ("stages", "rows"),
    [
        ([0], 2),  # nobody is deferred
        ([1], 2),  # all are
        ([0, 1], 2),
        ([0], 1),
        ([1], 1),
        ([0, 1], 5),  # cut into pieces, the last of which is not full
        ([0, 1], 0),
    ],
)
def test_answers_are_those_of_the_plain_cascade(
    servable, plain, signature, stages, rows
):
    of_stage = [np.flatnonzero(plain["stage"] == stage) for stage in stages]
    pool = np.ravel(np.stack([found[:3] for found in of_stage], axis=1))
    chosen = pool[:rows]
    texts = [" ".join(map(str, row)) for row in sources()[chosen]]
    answer = ask(servable, texts, signature)
    if rows >= len(stages):
        assert set(answer["stage"]) == set(stages if rows else [])
    for name in ("stage", "token_ids"):
        np.testing.assert_array_equal(
            answer[name], plain[name].numpy()[chosen], err_msg=name
        )
    np.testing.assert_allclose(
        answer["log_probability"],
        plain["log_probability"].numpy()[chosen],
        atol=1e-5,
    )


@pytest.mark.large
def test_a_row_does_not_depend_on_its_batch(servable, plain):
    texts = [" ".join(map(str, row)) for row in sources()]
    for name in ("serving_default", "compiled"):
        whole = ask(servable, texts, name)
        np.testing.assert_array_equal(whole["stage"], plain["stage"])
        for row in (0, 5, 11):
            alone = ask(servable, texts[row : row + 1], name)
            for key in ("stage", "token_ids", "outputs"):
                np.testing.assert_array_equal(alone[key][0], whole[key][row])


def test_a_classifier_is_exported_with_its_certificate(tmp_path):
    stages = [
        keras.Sequential(
            [keras.Input([3]), keras.layers.Dense(2, activation="softmax")]
        )
        for _ in range(2)
    ]
    losses = np.zeros(500)
    certificate = calibrate_cascade(
        DeferralRule(), losses, losses, losses, [0.3], tolerance=0.1
    )
    cascade = Cascade(stages, DeferralRule().with_threshold(certificate))
    # XLA alone will know how many rows there are.
    compiled = tf.function(cascade, jit_compile=True)
    features = tf.TensorSpec([None, 3], tf.float32, name="x")
    endpoints = {
        "serving_default": (lambda x: cascade(x), [features]),
        "compiled": (lambda x: compiled(x), [features]),
    }
    export_endpoints(tmp_path / "1", endpoints, certificate=certificate)
    found = read_certification(tmp_path / "1")
    assert found.certificate == certificate and found.is_bound
    assert found.deferral.low == 0.0 and found.deferral.high < 0.02
    signatures = tf.saved_model.load(tmp_path / "1").signatures
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    expected = cascade(x)
    assert set(expected["stage"].numpy()) == {0, 1}
    for name in endpoints:
        for rows in (slice(0, 40), slice(3, 4)):
            answer = signatures[name](x=tf.constant(x[rows]))
            np.testing.assert_array_equal(
                answer["stage"], expected["stage"][rows]
            )
            np.testing.assert_allclose(
                answer["outputs"], expected["outputs"][rows], atol=1e-6
            )
    with pytest.raises(ValueError, match="`certificate` must be"):
        export_endpoints(tmp_path / "2", endpoints, certificate="certificate")
    with pytest.raises(ValueError, match="must leave 'certificate.json'"):
        export_endpoints(
            tmp_path / "2",
            endpoints,
            assets={"certificate.json": certificate.save},
            certificate=certificate,
        )
    assert not (tmp_path / "2").exists()
