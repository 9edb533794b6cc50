"""`generate` against a loop that runs the whole model for every token."""

import keras
import numpy as np
import pytest

from keras_moe.generation import _generating
from tests.models.switch_transformer.switch_transformer_case import HALVES
from tests.models.switch_transformer.switch_transformer_case import KINDS
from tests.models.switch_transformer.switch_transformer_case import ONE_BLOCK
from tests.models.switch_transformer.switch_transformer_case import data
from tests.models.switch_transformer.switch_transformer_case import make

LENGTH = 5
DENSE = [kind for kind in KINDS if kind not in ("sparse", "every block, gated")]


@pytest.fixture(
    scope="module",
    params=[
        "every block, gated",
        pytest.param("sparse", marks=pytest.mark.large),
    ],
)
def model(request):
    """To read alone: what generates is traced once for all of them."""
    keras.utils.set_random_seed(0)
    return make(request.param, **ONE_BLOCK)


def naive_greedy(model, source, max_length):
    """Runs the whole model anew for every token of every row."""
    config = model.config
    answers, scores = [], []
    for row in source:
        said, score = [], 0.0
        while (
            np.any(row != config.pad_id)
            and len(said) < max_length
            and config.end_id not in said
        ):
            logits = model(
                {
                    "encoder_token_ids": row[None],
                    "decoder_token_ids": np.array([[config.start_id, *said]]),
                }
            )
            logits = np.asarray(logits, "float64")[0, -1]
            logits[config.pad_id] = -1e9
            logits -= logits.max()
            log_p = logits - np.log(np.exp(logits).sum())
            said.append(int(np.argmax(log_p)))
            score += log_p[said[-1]]
        padding = [config.pad_id] * (max_length - len(said))
        answers.append(said + padding)
        scores.append(score)
    return np.array(answers), np.array(scores)


# In a graph, by default, in the next test.
@pytest.mark.usefixtures("functions_run_eagerly")
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        pytest.param("sparse", {}, marks=pytest.mark.large),
        ("every block, gated", ONE_BLOCK),
        *(
            pytest.param(
                kind,
                {**ONE_BLOCK, "num_experts": 0},
                marks=pytest.mark.large if kind in HALVES else [],
            )
            for kind in DENSE
        ),
        *(
            pytest.param(kind, {"num_experts": 0}, marks=pytest.mark.large)
            for kind in DENSE
        ),
    ],
)
def test_generate_equals_the_naive_loop(kind, sizes):
    model = make(kind, **sizes)
    source = data(batch=3)["encoder_token_ids"]
    source[2] = 0  # a row with nothing in it
    received = model.generate(source, max_length=4)
    tokens, scores = naive_greedy(model, source, 4)
    np.testing.assert_array_equal(received["token_ids"], tokens)
    np.testing.assert_allclose(received["log_probability"], scores, atol=1e-3)
    assert not np.any(received["token_ids"][2])
    assert received["log_probability"][2] == 0.0


def test_rows_end_each_in_its_time():
    # Five steps of the end id's logit, pushed up by hand, end some rows.
    model = make("untied", **ONE_BLOCK)
    kernel = model.head.kernel.numpy()
    for scale in np.linspace(0, 20, 41):
        boosted = kernel.copy()
        boosted[:, 1] *= scale
        model.head.kernel.assign(boosted)
        source = np.random.randint(3, 9, (8, 5)).astype("int32")
        tokens = np.asarray(model.generate(source, 6)["token_ids"])
        ends = [row.tolist().index(1) if 1 in row else 6 for row in tokens]
        if len(set(ends)) > 2:
            break
    else:
        raise AssertionError("No scale made rows end at different times.")
    for row, end in zip(tokens, ends, strict=True):
        assert not np.any(row[end + 1 :])
        assert np.all(row[:end] > 1)
    expected, _ = naive_greedy(model, source[:3], 6)
    np.testing.assert_array_equal(tokens[:3], expected)


def test_generate_under_xla(monkeypatch):
    model = make("dense, gated", **ONE_BLOCK)
    source, shapes = data(batch=7)["encoder_token_ids"], []
    encode = model.encode
    monkeypatch.setattr(
        model,
        "encode",
        lambda ids, training: shapes.append(ids.shape) or encode(ids, training),
    )
    plain = model.generate(source, 4)
    # No accelerator is here.
    assert shapes == [(None, None)]
    for rows in (7, 5):
        compiled = model.generate(source[:rows], 4, jit_compile=True)
        for name, value in compiled.items():
            np.testing.assert_allclose(value, plain[name][:rows], atol=1e-5)
    # One program for both.
    assert shapes == [(None, None), (8, 8)]
    monkeypatch.setattr(_generating, "accelerator", lambda: "TPU")
    model.generate(source, 4)
    assert len(shapes) == 2
    with pytest.raises(ValueError, match="`jit_compile` must be True, False"):
        model.generate(source, 4, jit_compile="always")


@pytest.mark.usefixtures("functions_run_eagerly")
def test_padding_for_xla_leaves_experts_that_choose_alone(monkeypatch):
    model = make(encoder_router="expert_choice", **ONE_BLOCK)
    source, shapes = data(batch=3)["encoder_token_ids"], []
    compiled = model._decoder_for
    monkeypatch.setattr(
        model,
        "_decoder_for",
        lambda weights, *options: (
            shapes.append(options[-1])
            or compiled(weights, *options[:3], False, (None, None))
        ),
    )
    received = model.generate(source, 4, jit_compile=True)
    assert shapes == [(4, 6)]
    expected = model.generate(source, 4)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, atol=1e-5)


def test_generate_does_not_look_at_the_neighbours(model):
    source = data(batch=4)["encoder_token_ids"]
    together = model.generate(source, LENGTH)["token_ids"]
    for row in range(4):
        alone = model.generate(source[row : row + 1], LENGTH)["token_ids"]
        np.testing.assert_array_equal(alone[0], together[row])
        padded = np.pad(source[row : row + 1], ((0, 3), (0, 2)))
        alone = model.generate(padded, LENGTH)["token_ids"]
        np.testing.assert_array_equal(alone[0], together[row])


def test_generate_from_nothing(model):
    for shape in [(0, 4), (2, 0), (0, 0)]:
        received = model.generate(np.zeros(shape, "int32"), LENGTH)
        assert received["token_ids"].shape == (shape[0], LENGTH)
        assert not np.any(received["token_ids"])


def test_generate_leaves_the_model_as_it_was(model):
    before = [v.numpy() for v in model.variables]
    metrics = [float(m.result()) for m in model.metrics]
    model.generate(data()["encoder_token_ids"], LENGTH)
    assert not model.losses
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    assert [float(m.result()) for m in model.metrics] == metrics


def test_generate_uses_todays_weights():
    model, other = (make("dense, gated", **ONE_BLOCK) for _ in range(2))
    source = data()["encoder_token_ids"]
    model.generate(source, 3)
    model.set_weights(other.get_weights())
    np.testing.assert_array_equal(
        model.generate(source, 3)["token_ids"],
        other.generate(source, 3)["token_ids"],
    )


def test_generate_errors(model):
    with pytest.raises(ValueError, match="max_length=0"):
        model.generate([[1]], max_length=0)
    with pytest.raises(ValueError, match="`token_ids`"):
        model.generate([1, 2])
