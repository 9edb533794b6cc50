"""One and the same function: step by step, padded, row by row, cloned."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.losses import token_crossentropy
from keras_moe.ops import shift_right
from tests.models.switch_transformer.switch_transformer_case import EACH_KIND
from tests.models.switch_transformer.switch_transformer_case import ONE_BLOCK
from tests.models.switch_transformer.switch_transformer_case import data
from tests.models.switch_transformer.switch_transformer_case import make


@pytest.mark.parametrize("kind", EACH_KIND)
def test_steps_equal_teacher_forcing(kind):
    model = make(kind)
    inputs = data(target=7)
    inputs["decoder_token_ids"] = shift_right(
        inputs["decoder_token_ids"], model.config.start_id
    ).numpy()
    whole = model(inputs)
    assert whole.shape == (3, 7, model.config.output_size)
    assert whole.dtype == "float32"
    memory, mask = model.encode(inputs["encoder_token_ids"])
    state = model.start_from(memory, mask, 7)
    for position in range(7):
        token = inputs["decoder_token_ids"][:, position]
        logits, state = model.step(token, position, state)
        np.testing.assert_allclose(logits, whole[:, position], atol=2e-5)


@pytest.mark.parametrize(
    "kind", ["sparse", pytest.param("dense, gated", marks=pytest.mark.large)]
)
def test_the_decoder_is_causal(kind):
    model, inputs = make(kind), data()
    before = model(inputs)
    targets = inputs["decoder_token_ids"].copy()
    targets[:, 3:] = 11
    after = model({**inputs, "decoder_token_ids": targets})
    np.testing.assert_allclose(before[:, :3], after[:, :3], atol=1e-5)
    assert not np.allclose(before[:, 3:], after[:, 3:], atol=1e-3)


@pytest.mark.parametrize("kind", EACH_KIND)
def test_padding_and_neighbours_change_nothing(kind):
    model, inputs = make(kind), data()
    whole = model(inputs)
    wider = {
        name: np.pad(ids, ((0, 0), (0, 3))) for name, ids in inputs.items()
    }
    np.testing.assert_allclose(model(wider)[:, :5], whole, atol=1e-5)
    for row in range(3):
        length = np.count_nonzero(inputs["encoder_token_ids"][row])
        alone = model(
            {
                "encoder_token_ids": inputs["encoder_token_ids"][
                    row : row + 1, :length
                ],
                "decoder_token_ids": inputs["decoder_token_ids"][row : row + 1],
            }
        )
        np.testing.assert_allclose(alone[0], whole[row], atol=1e-5)


def test_padding_changes_no_loss_and_no_metric():
    model = make(jitter_noise=0.0, dropout_rate=0.0, expert_dropout_rate=0.0)
    inputs = data()
    inputs["decoder_token_ids"][1, 2:] = 0

    def run(inputs):
        model.reset_metrics()
        model(inputs)
        logs = {m.name: float(m.result()) for m in model.metrics}
        return [float(loss) for loss in model.losses], logs

    losses, logs = run(inputs)
    assert len(losses) == 4  # two a sparse block
    wider = {
        name: np.pad(ids, ((0, 0), (0, 4))) for name, ids in inputs.items()
    }
    wider_losses, wider_logs = run(wider)
    assert wider_losses == pytest.approx(losses, rel=1e-4)
    assert wider_logs == pytest.approx(logs, rel=1e-4, abs=1e-6)


def test_metrics_are_named_after_their_layers():
    names = [metric.name for metric in make().metrics]
    # Seven of each of the two sparse layers, each once.
    assert len(names) == 14 and len(set(names)) == 14
    for stack in ("encoder", "decoder"):
        assert sum(stack in name for name in names) == 7
    assert not make(report_metrics=False).metrics


def test_clone_model():
    model, inputs = make(), data()
    clone = keras.models.clone_model(model)
    assert clone.config == model.config
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(inputs), model(inputs))


@pytest.mark.parametrize(
    "wrong", [-3, pytest.param(12, marks=pytest.mark.large), 2**32 + 5]
)
def test_an_id_outside_the_vocabulary_reads_no_other_row(wrong):
    model = make(**ONE_BLOCK, num_experts=0)
    ids = np.array([[5, 6, 7], [5, 6, wrong]])
    for inputs in (
        {"encoder_token_ids": ids, "decoder_token_ids": ids[:, :2]},
        {"encoder_token_ids": ids[:, :2], "decoder_token_ids": ids},
    ):
        with pytest.raises(ValueError, match=f"Received: {wrong} at"):
            model(inputs)
        run = tf.function(model, autograph=False)
        logits = run({name: tf.constant(x) for name, x in inputs.items()})
        assert np.isfinite(logits[0]).all()
        assert np.isnan(logits[1, -1]).all()
    with pytest.raises(ValueError, match=f"Received: {wrong} at"):
        model.generate(ids, max_length=2)


def test_labels_left_out_train_as_padding_does():
    model = make(**ONE_BLOCK, num_experts=0)
    model.compile(loss=token_crossentropy, run_eagerly=True)
    losses = []
    for left_out in (0, -100):
        labels = np.array([[5, 6, left_out], [7, left_out, left_out]])
        inputs = {
            "encoder_token_ids": np.array([[5, 6], [7, 8]]),
            "decoder_token_ids": shift_right(labels),
        }
        losses.append(model.test_on_batch(inputs, labels))
    assert losses[0] == losses[1]
