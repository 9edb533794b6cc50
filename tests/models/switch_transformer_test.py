import keras
import numpy as np
import pytest

from keras_moe.losses import token_crossentropy
from keras_moe.models import SwitchTransformer
from keras_moe.models import SwitchTransformerConfig
from keras_moe.ops import shift_right

SIZES = {
    "vocabulary_size": 12,
    "model_dim": 8,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "num_experts": 3,
}
KINDS = {
    "sparse": {},
    "dense, gated": {"num_experts": 0, "gated": True, "activation": "gelu"},
    "every block, gated": {"moe_every": 1, "gated": True},
    "untied": {"tie_embeddings": False},
    "two vocabularies": {"target_vocabulary_size": 9},
    "two vocabularies, untied": {
        "target_vocabulary_size": 9,
        "tie_embeddings": False,
        "key_dim": 5,
        "start_id": 2,
    },
}


def make(kind="sparse", **sizes):
    """A model with opinions: default routers see all experts as equal."""
    model = SwitchTransformer(**{**SIZES, **KINDS[kind], **sizes})
    for weight in model.weights:
        if "router" in weight.path and weight.path.endswith("kernel"):
            weight.assign(np.random.normal(size=weight.shape))
    return model


def data(batch=3, source=6, target=5, vocabulary=9):
    ids = np.random.randint(3, vocabulary, (batch, source))
    lengths = np.random.randint(1, source + 1, (batch, 1))
    lengths[0] = source
    ids = np.where(np.arange(source)[None] < lengths, ids, 0)
    targets = np.random.randint(3, vocabulary, (batch, target))
    return {
        "encoder_token_ids": ids.astype("int32"),
        "decoder_token_ids": targets.astype("int32"),
    }


def parameters(c: SwitchTransformerConfig):
    """The number of parameters, by counting matrices."""
    d, inner = c.model_dim, c.num_heads * c.head_dim
    attention = 4 * d * inner
    feed_forward = (3 if c.gated else 2) * d * c.hidden_dim

    def feed(block):
        if not c.is_sparse(block):
            return feed_forward
        return c.num_experts * feed_forward + d * c.num_experts

    total = 2 * c.num_relative_buckets * c.num_heads + 2 * d
    for block in range(c.num_encoder_layers):
        total += attention + 2 * d + feed(block)
    for block in range(c.num_decoder_layers):
        total += 2 * attention + 3 * d + feed(block)
    total += c.output_size * d
    if c.target_vocabulary_size is not None:
        total += c.vocabulary_size * d
    if not c.tie_embeddings:
        total += c.output_size * d
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_parameter_count(kind):
    model = make(kind)
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert trainable == parameters(model.config)
    paths = [w.path for w in model.weights]
    assert len(set(paths)) == len(paths)


def test_base_size_is_the_papers():
    # Switch-Base has 7.4B parameters at 128 experts and T5-Base's dense part
    # 223M; at 8 experts the published checkpoint holds about 620M.
    config = SwitchTransformerConfig(
        **SwitchTransformer.presets["switch_base_8"]["config"]
    )
    assert parameters(config) == pytest.approx(620e6, rel=0.01)


def test_which_blocks_are_sparse():
    config = SwitchTransformerConfig(**SIZES, moe_every=3)
    assert [config.is_sparse(i) for i in range(6)] == [0, 0, 1, 0, 0, 1]
    assert not SwitchTransformerConfig(**{**SIZES, "num_experts": 0}).is_sparse(
        1
    )


# === One and the same function, four ways ===


@pytest.mark.parametrize("kind", KINDS)
def test_steps_equal_teacher_forcing(kind):
    model = make(kind)
    inputs = data(target=7)
    inputs["decoder_token_ids"] = shift_right(
        inputs["decoder_token_ids"], model.config.start_id
    ).numpy()
    whole = model(inputs)
    assert whole.shape == (3, 7, model.config.output_size)
    assert whole.dtype == "float32"
    state = model.start(inputs["encoder_token_ids"], 7)
    for position in range(7):
        token = inputs["decoder_token_ids"][:, position]
        logits, state = model.step(token, position, state)
        np.testing.assert_allclose(logits, whole[:, position], atol=2e-5)


@pytest.mark.parametrize("kind", ["sparse", "dense, gated"])
def test_the_decoder_is_causal(kind):
    model, inputs = make(kind), data()
    before = model(inputs)
    targets = inputs["decoder_token_ids"].copy()
    targets[:, 3:] = 11
    after = model({**inputs, "decoder_token_ids": targets})
    np.testing.assert_allclose(before[:, :3], after[:, :3], atol=1e-5)
    assert not np.allclose(before[:, 3:], after[:, 3:], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
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
    # Keras lists the metrics of nested layers more than once.
    names = {id(metric): metric.name for metric in make().metrics}.values()
    # Seven of each of the two sparse layers.
    assert len(names) == 14 and len(set(names)) == 14
    for stack in ("encoder", "decoder"):
        assert sum(stack in name for name in names) == 7


# === Generation ===


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


@pytest.mark.parametrize("kind", KINDS)
def test_generate_equals_the_naive_loop(kind):
    model = make(kind)
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
    model = make("untied")
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


@pytest.mark.parametrize("kind", ["every block, gated", "dense, gated"])
def test_generate_under_xla(kind):
    model = make(kind)
    source = data()["encoder_token_ids"]
    plain = model.generate(source, 4)
    compiled = model.generate(source, 4, jit_compile=True)
    np.testing.assert_array_equal(compiled["token_ids"], plain["token_ids"])
    np.testing.assert_allclose(
        compiled["log_probability"], plain["log_probability"], atol=1e-4
    )


def test_generate_does_not_look_at_the_neighbours():
    model = make("every block, gated")
    source = data(batch=4)["encoder_token_ids"]
    together = model.generate(source, 5)["token_ids"]
    for row in range(4):
        alone = model.generate(source[row : row + 1], 5)["token_ids"]
        np.testing.assert_array_equal(alone[0], together[row])
        padded = np.pad(source[row : row + 1], ((0, 3), (0, 2)))
        alone = model.generate(padded, 5)["token_ids"]
        np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize("shape", [(0, 4), (2, 0), (0, 0)])
def test_generate_from_nothing(shape):
    received = make().generate(np.zeros(shape, "int32"), max_length=3)
    assert received["token_ids"].shape == (shape[0], 3)
    assert not np.any(received["token_ids"])


def test_generate_leaves_the_model_as_it_was():
    model = make()
    before = [v.numpy() for v in model.variables]
    metrics = [float(m.result()) for m in model.metrics]
    model.generate(data()["encoder_token_ids"], 3)
    assert not model.losses
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    assert [float(m.result()) for m in model.metrics] == metrics


def test_generate_uses_todays_weights():
    model, other = make("dense, gated"), make("dense, gated")
    source = data()["encoder_token_ids"]
    model.generate(source, 3)
    model.set_weights(other.get_weights())
    np.testing.assert_array_equal(
        model.generate(source, 3)["token_ids"],
        other.generate(source, 3)["token_ids"],
    )


# === Saving ===


@pytest.mark.parametrize("kind", KINDS)
def test_keras_file_round_trip(kind, tmp_path):
    model, inputs = make(kind), data()
    model.generate(inputs["encoder_token_ids"], 2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]


def test_a_compiled_model_survives_a_file(tmp_path):
    model, inputs = make(num_experts=0), data()
    model.compile("sgd", token_crossentropy)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    targets = inputs["decoder_token_ids"]
    assert loaded.evaluate(inputs, targets, verbose=0) == pytest.approx(
        float(token_crossentropy(targets, model(inputs))), rel=1e-4
    )


def test_policy_survives_a_file(tmp_path):
    model = make(dtype="mixed_bfloat16")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.dtype_policy.name == "mixed_bfloat16"
    inputs = data()
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


def test_preset_directory_round_trip(tmp_path):
    model, inputs = make("two vocabularies, untied"), data()
    model.save_to_preset(str(tmp_path / "preset"))
    loaded = SwitchTransformer.from_preset(str(tmp_path / "preset"))
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    half = SwitchTransformer.from_preset(
        str(tmp_path / "preset"), dtype="mixed_bfloat16"
    )
    assert half.dtype_policy.name == "mixed_bfloat16"


def test_presets_by_name():
    model = SwitchTransformer.from_preset("switch_tiny", hidden_dim=8)
    assert model.config.hidden_dim == 8
    for preset in SwitchTransformer.presets.values():
        SwitchTransformerConfig(**preset["config"])
        assert preset["description"]
    with pytest.raises(ValueError, match="switch_tiny.*'switch_teeny'"):
        SwitchTransformer.from_preset("switch_teeny")


def test_clone_model():
    model, inputs = make(), data()
    clone = keras.models.clone_model(model)
    assert clone.config == model.config
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(inputs), model(inputs))


# === Precision ===


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    one = {"num_encoder_layers": 1, "num_decoder_layers": 1, "moe_every": 1}
    model, inputs = make(dtype=policy, **one), data()
    exact = make(**one)
    exact.set_weights(model.get_weights())
    logits = model(inputs)
    assert logits.dtype == "float32"
    np.testing.assert_allclose(logits, exact(inputs), atol=0.3)
    state = model.start(inputs["encoder_token_ids"], 2)
    assert state.blocks[0].positions.keys.dtype == model.compute_dtype
    assert np.all(
        np.isfinite(
            model.generate(inputs["encoder_token_ids"], 3)["log_probability"]
        )
    )
    model.compile("adam", token_crossentropy, jit_compile=False)
    history = model.fit(inputs, inputs["decoder_token_ids"], verbose=0).history
    assert np.all(np.isfinite(history["loss"]))


# === Errors ===


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"vocabulary_size": 0}, "`vocabulary_size`.*=0"),
        ({"model_dim": 0}, "`model_dim`.*=0"),
        ({"model_dim": 2.5}, "`model_dim`.*=2.5"),
        ({"num_encoder_layers": 0}, "`num_encoder_layers`"),
        ({"num_decoder_layers": 0}, "`num_decoder_layers`"),
        ({"num_heads": 0}, "`num_heads`"),
        ({"num_heads": 3}, "`model_dim`.*num_heads=3"),
        ({"hidden_dim": -1}, "`hidden_dim`"),
        ({"moe_every": 0}, "`moe_every`"),
        ({"num_experts": -1}, "`num_experts`"),
        ({"num_experts": 1.5}, "`num_experts`"),
        ({"key_dim": 0}, "`key_dim`"),
        ({"target_vocabulary_size": 0}, "`target_vocabulary_size`"),
        ({"pad_id": 12}, "`pad_id`.*12"),
        ({"end_id": -1}, "`end_id`"),
        ({"end_id": 0}, "`end_id`"),
        ({"start_id": 12}, "`start_id`"),
        ({"target_vocabulary_size": 5, "start_id": 6}, "`start_id`.*5"),
        ({"dropout_rate": 1.0}, "`dropout_rate`"),
        ({"expert_dropout_rate": -0.1}, "expert_dropout_rate"),
        ({"num_relative_buckets": 2}, "`num_relative_buckets`"),
        ({"max_relative_distance": 8}, "`max_relative_distance`"),
    ],
)
def test_config_errors(sizes, message):
    with pytest.raises(ValueError, match=message):
        SwitchTransformer(**{**SIZES, **sizes})


def test_config_or_sizes():
    config = SwitchTransformerConfig(**SIZES)
    assert SwitchTransformer(config).config == config
    with pytest.raises(ValueError, match="either.*hidden_dim"):
        SwitchTransformer(config, hidden_dim=3)


def test_generate_errors():
    model = make()
    with pytest.raises(ValueError, match="max_length=0"):
        model.generate([[1]], max_length=0)
    with pytest.raises(ValueError, match="`token_ids`"):
        model.generate([1, 2])


# === Learning ===


@pytest.mark.parametrize("num_experts", [0, 4])
def test_learns_to_copy(num_experts):
    keras.utils.set_random_seed(1)
    model = SwitchTransformer(
        vocabulary_size=8,
        model_dim=32,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_heads=4,
        hidden_dim=64,
        num_experts=num_experts,
        moe_every=1,
        dropout_rate=0.0,
        expert_dropout_rate=0.0,
    )
    rng = np.random.default_rng(0)
    source = rng.integers(2, 8, (1024, 4)).astype("int32")
    targets = np.pad(source, ((0, 0), (0, 1)), constant_values=1)
    inputs = {
        "encoder_token_ids": source,
        "decoder_token_ids": shift_right(targets).numpy(),
    }
    model.compile(
        keras.optimizers.Adam(5e-3), token_crossentropy, jit_compile=False
    )
    history = model.fit(
        inputs, targets, batch_size=64, epochs=12, verbose=0
    ).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    unseen = rng.integers(2, 8, (64, 4)).astype("int32")
    said = np.asarray(model.generate(unseen, 5)["token_ids"])
    assert np.mean(said[:, :4] == unseen) > 0.6
    assert np.mean(said[:, 4] == 1) > 0.6


def test_a_preset_directory_takes_overrides(tmp_path):
    model = SwitchTransformer.from_preset("switch_tiny")
    model.save_to_preset(str(tmp_path))
    loaded = SwitchTransformer.from_preset(
        str(tmp_path), vocabulary_size=32, dropout_rate=0.5
    )
    assert loaded.config.dropout_rate == 0.5
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError):
        SwitchTransformer.from_preset(str(tmp_path), vocabulary_size=40)
