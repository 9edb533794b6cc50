"""`SwitchTransformer` with attention through random features."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.models import SwitchTransformer

PAD = 0


def make(**sizes):
    """One block a stack, both sparse: each costs seconds of tracing."""
    sizes = {
        "attention": "random_feature",
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "moe_every": 1,
        **sizes,
    }
    return SwitchTransformer.from_preset(
        "switch_tiny", num_random_features=16, **sizes
    )


def batch(rows=3, length=9):
    ids = np.random.default_rng(0).integers(2, 32, (rows, length))
    ids[1, 5:] = PAD
    return {"encoder_token_ids": ids, "decoder_token_ids": ids}


def train(model, **options):
    inputs = batch()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss, **options)
    targets = inputs["decoder_token_ids"]
    # Of an untrained model with 16 features, noise is to be expected.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*relative_variance")
        history = model.fit(inputs, targets, epochs=3, verbose=0).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]


@pytest.fixture(scope="module")
def trained():
    model = make()
    # Not traced: it takes longer than a few steps.
    train(model, run_eagerly=True)
    return model


@pytest.mark.large
@pytest.mark.parametrize("jit_compile", [False, True])
def test_trains_in_a_graph(jit_compile):
    train(make(), jit_compile=jit_compile)


def test_positions_are_rotary():
    assert make().config.position_encoding == "rotary"
    softmax = make(attention="softmax")
    assert softmax.config.position_encoding == "relative_bias"
    names = [weight.path for weight in make().weights]
    assert not [name for name in names if "position_bias" in name]


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"position_encoding": "relative_bias"}, "no scores"),
        ({"position_encoding": "absolute"}, "`position_encoding` must be"),
        ({"attention": "linear"}, "`attention` must be"),
        ({"feature_map": "favor"}, "`feature_map` must be"),
        ({"key_dim": 5}, "even size"),
    ],
)
def test_refuses(sizes, message):
    with pytest.raises(ValueError, match=message):
        make(**sizes)


def check_steps(model):
    inputs = batch(length=7)
    whole = np.asarray(model(inputs))
    memory, mask = model.encode(inputs["encoder_token_ids"])
    state = model.start_from(memory, mask, 7)
    for position in range(7):
        token = inputs["decoder_token_ids"][:, position]
        logits, state = model.step(token, np.int32(position), state)
        seen = token != PAD
        np.testing.assert_allclose(
            np.asarray(logits)[seen],
            whole[seen, position],
            rtol=1e-4,
            atol=1e-4,
        )


def test_steps_equal_the_whole(trained):
    check_steps(trained)


def test_steps_equal_the_whole_with_rotary_softmax():
    check_steps(make(attention="softmax", position_encoding="rotary"))


@pytest.mark.usefixtures("functions_run_eagerly")
def test_padding_and_batch_mates_do_not_matter(trained):
    model = trained
    ids = batch()["encoder_token_ids"]
    together = model.generate(ids, max_length=6)["token_ids"]
    alone = model.generate(ids[1:2, :5], max_length=6)["token_ids"]
    np.testing.assert_array_equal(together[1:2], alone)


def test_nor_does_how_far_rows_are_padded(trained):
    """Exact attention below 64 keys, the layer's default, would tell."""
    inputs = batch()
    padded = np.pad(inputs["encoder_token_ids"], ((0, 0), (0, 61)))
    np.testing.assert_allclose(
        trained({**inputs, "encoder_token_ids": padded}),
        trained(inputs),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.large
def test_generates_the_same_under_xla(trained):
    ids = batch()["encoder_token_ids"]
    plain = trained.generate(ids, max_length=6)["token_ids"]
    compiled = trained.generate(ids, max_length=6, jit_compile=True)
    np.testing.assert_array_equal(compiled["token_ids"], plain)


# Tracing takes seconds: by default, what is loaded is the same model, and in
# switch_transformer/saving_test.py.
@pytest.mark.large
def test_a_file_and_a_preset_generate_the_same(trained, tmp_path):
    ids = batch()["encoder_token_ids"]
    trained.save(tmp_path / "model.keras")
    trained.save_to_preset(tmp_path / "preset")
    expected = trained.generate(ids, max_length=6)["token_ids"]
    for loaded in (
        keras.models.load_model(tmp_path / "model.keras"),
        SwitchTransformer.from_preset(str(tmp_path / "preset")),
    ):
        received = loaded.generate(ids, max_length=6)["token_ids"]
        np.testing.assert_array_equal(received, expected)


def test_saves_and_loads(trained, tmp_path):
    model, inputs = trained, batch()
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "preset")
    from_file, from_preset = (
        keras.models.load_model(tmp_path / "model.keras"),
        SwitchTransformer.from_preset(str(tmp_path / "preset")),
    )
    for loaded in (from_file, from_preset):
        np.testing.assert_array_equal(loaded(inputs), model(inputs))


# By default its layer, in layers/attention, and a model of softmax, in cascade.
@pytest.mark.large
def test_exports(trained, tmp_path):
    model, ids = trained, batch()["encoder_token_ids"]
    expected = model.generate(ids, max_length=6)["token_ids"]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve",
        lambda ids: model.generate(ids, max_length=6)["token_ids"],
        input_signature=[tf.TensorSpec((None, None), tf.int32)],
    )
    archive.write_out(str(tmp_path / "exported"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "exported"))
    received = served.serve(tf.constant(ids, tf.int32))
    np.testing.assert_array_equal(received, expected)
