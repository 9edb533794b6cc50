"""Training, saving and serving of a dual encoder."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import training
from keras_moe.models import DualEncoder
from tests.reference.in_batch import in_batch_mean
from tests.reference.in_batch import share_a_key

ROWS, SIZE, DIM = 7, 5, 3
RNG = np.random.default_rng(3)


def dense(size=SIZE, **options):
    return keras.Sequential(
        [keras.Input((size,)), keras.layers.Dense(DIM, **options)]
    )


def batch(rows=ROWS, negatives=0):
    x = {
        "query": RNG.normal(size=(rows, SIZE)).astype("float32"),
        "document": RNG.normal(size=(rows, SIZE)).astype("float32"),
    }
    if negatives:
        shape = (rows, negatives)
        x["negatives"] = RNG.normal(size=(*shape, SIZE)).astype("float32")
        x["negative_keys"] = RNG.integers(0, 9, shape)
    return x


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def compiled(*encoders, **options):
    """Steps run eagerly: a few take less time than their graph."""
    model = DualEncoder(*encoders, **options)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    return model


def loss_of(model, x, y=None, weights=None):
    """The loss and its gradients, by one eager pass."""
    with tf.GradientTape() as tape:
        y_pred = model(x, training=True)
        loss = model.compute_loss(x, y, y_pred, weights)
    gradients = tape.gradient(loss, model.trainable_variables)
    return float(loss), [np.asarray(each) for each in gradients]


@pytest.mark.parametrize("negatives", [0, 2])
@pytest.mark.parametrize("hardest", [None, 2])
def test_loss_is_that_of_single_pairs(negatives, hardest):
    model = compiled(
        dense(), dense(), temperature=0.3, num_hard_negatives=hardest
    )
    x, y = batch(negatives=negatives), np.array([0, 1, 2, 1, 4, 5, 0])
    weights = RNG.uniform(0, 2, ROWS).astype("float32")
    x["sampling_probability"] = RNG.uniform(0.1, 1, ROWS)
    probability = x["sampling_probability"]
    documents, keys = x["document"], y
    if negatives:
        shape = (ROWS, negatives)
        x["negative_sampling_probability"] = RNG.uniform(0.1, 1, shape)
        documents = np.concatenate(
            [documents, x["negatives"].reshape(-1, SIZE)]
        )
        keys = np.concatenate([y, x["negative_keys"].ravel()])
        probability = np.concatenate(
            [probability, x["negative_sampling_probability"].ravel()]
        )
    queries = unit(np.asarray(model.query_encoder(x["query"])))
    candidates = unit(np.asarray(model.document_encoder(documents)))
    expected = in_batch_mean(
        queries @ candidates.T / 0.3,
        weights,
        excluded=[[share_a_key([a], [b]) for b in keys] for a in y],
        probability=probability,
        hardest=hardest,
    )
    assert loss_of(model, x, y, weights)[0] == pytest.approx(expected, rel=1e-5)


def test_fits_evaluates_and_finds():
    """On pairs that a rotation tells apart, in a graph and by our trainer."""
    keras.utils.set_random_seed(0)
    rotation = np.linalg.qr(RNG.normal(size=(SIZE, SIZE)))[0]
    documents = RNG.normal(size=(64, SIZE)).astype("float32")
    x = {"query": documents @ rotation.astype("float32"), "document": documents}
    model = DualEncoder(dense(), dense(), temperature=0.1)
    model.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    before = model.evaluate(x, batch_size=32, verbose=0, return_dict=True)
    data = tf.data.Dataset.from_tensor_slices((x, np.arange(64))).batch(32)
    history = model.fit(data.repeat(10), epochs=2, verbose=0)
    after = model.evaluate(x, batch_size=32, verbose=0, return_dict=True)
    assert after["loss"] < 0.3 * before["loss"]
    assert after["in_batch_accuracy"] > 0.8 > before["in_batch_accuracy"]
    assert after["in_batch_negatives"] == 31
    trained = training.Trainer(model).fit(data, verbose=0).history
    assert trained["loss"][0] < history.history["loss"][-1]


@pytest.mark.parametrize("shared", [True, False])
def test_survives_saving_and_export(shared, tmp_path):
    model = compiled(
        dense(), None if shared else dense(), 0.2, num_hard_negatives=3
    )
    x = batch()
    model.fit(x, np.arange(ROWS), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.temperature == 0.2 and loaded.num_hard_negatives == 3
    assert (loaded.query_encoder is loaded.document_encoder) == shared
    answer = model.predict(x, verbose=0)
    for name, vectors in loaded.predict(x, verbose=0).items():
        np.testing.assert_array_equal(vectors, answer[name])
    for each in (model, loaded):
        each.fit(x, np.arange(ROWS), verbose=0)
    assert loss_of(loaded, x)[0] == loss_of(model, x)[0]
    loaded.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    answer = served.serve(x)
    for name, vectors in loaded(x).items():
        np.testing.assert_allclose(answer[name], vectors, rtol=1e-6)


def test_refuses_to_save_what_keras_cannot_load(tmp_path):
    """When this can be saved, `serialize_encoders` may let it pass."""
    layer = keras.layers.Dense(DIM, name="common")
    model = DualEncoder(
        *(
            keras.Sequential(
                [keras.Input((SIZE,)), keras.layers.Dense(2), layer]
            )
            for _ in range(2)
        )
    )
    with pytest.raises(ValueError, match=r"\['common'\] in both encoders"):
        model.save(tmp_path / "model.keras")


@keras.saving.register_keras_serializable(package="tests")
class Tower(keras.Model):
    """An encoder that has a table with another one in common."""

    def __init__(self, table, **kwargs):
        super().__init__(**kwargs)
        self.table = table
        self.own = keras.layers.Dense(DIM)

    def call(self, ids):
        return self.own(keras.ops.mean(self.table(ids), axis=1))

    def get_config(self):
        table = keras.saving.serialize_keras_object(self.table)
        return {**super().get_config(), "table": table}

    @classmethod
    def from_config(cls, config):
        table = keras.saving.deserialize_keras_object(config.pop("table"))
        return cls(table, **config)


def test_subclasses_may_have_a_layer_in_common(tmp_path):
    table = keras.layers.Embedding(9, 4)
    model = DualEncoder(Tower(table), Tower(table))
    model.compile("sgd", run_eagerly=True)
    x = {role: RNG.integers(0, 9, (ROWS, 4)) for role in ("query", "document")}
    model.fit(x, np.arange(ROWS), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.query_encoder.table is loaded.document_encoder.table
    for name, vectors in model(x).items():
        np.testing.assert_array_equal(loaded(x)[name], vectors)


def test_is_the_same_when_compiled():
    x, y = batch(negatives=2), np.arange(ROWS)
    model = DualEncoder(dense(), num_hard_negatives=4)
    model.compile("sgd", jit_compile=True)
    expected, _ = loss_of(model, x, y)
    history = model.fit(x, y, verbose=0).history
    assert history["loss"] == pytest.approx([expected], rel=1e-5)


def test_mixed_precision_has_vectors_in_float32():
    encoder = dense(dtype="mixed_float16")
    model = DualEncoder(encoder, dtype="mixed_float16")
    model.compile("sgd", run_eagerly=True)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    x = batch()
    assert model(x)["query"].dtype == tf.float32
    assert np.isfinite(model.fit(x, verbose=0).history["loss"]).all()


def spoilt(x, role, row):
    return {
        **x,
        role: np.where(np.arange(ROWS)[:, None] == row, np.nan, x[role]),
    }


@pytest.mark.parametrize("role", ["query", "document"])
def test_a_row_that_is_not_finite_is_left_out(role):
    """As if it were not there, in the loss and in every gradient."""
    model, x = compiled(dense(), dense()), batch()
    wrong = spoilt(x, role, 2)
    assert np.isnan(model(wrong)[role][2]).all()
    loss, gradients = loss_of(model, wrong, np.arange(ROWS))
    if role == "document":
        expected = loss_of(
            model, {k: np.delete(v, 2, axis=0) for k, v in x.items()}
        )
        assert loss == pytest.approx(expected[0], rel=1e-5)
        for one, other in zip(gradients, expected[1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    else:
        # Its document is still a negative of the others.
        assert model.negatives_tracker.result() == ROWS - 1
    assert np.isfinite(loss)
    assert all(np.isfinite(each).all() for each in gradients)


def test_a_row_of_zeros_is_left_out():
    """As an encoder gives it for a text without a word."""
    model, x = compiled(dense(use_bias=False)), batch()
    x["document"][3] = 0
    loss, gradients = loss_of(model, x)
    assert model.negatives_tracker.result() == ROWS - 2
    assert np.isfinite(loss) and np.isfinite(gradients[0]).all()


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_a_row_without_a_probability_is_left_out(wrong):
    model, x = compiled(dense()), batch()
    x["sampling_probability"] = np.full(ROWS, 0.5)
    x["sampling_probability"][3] = wrong
    left = {name: np.delete(each, 3, axis=0) for name, each in x.items()}
    loss, gradients = loss_of(model, x)
    assert loss == pytest.approx(loss_of(model, left)[0], rel=1e-5)
    assert all(np.isfinite(each).all() for each in gradients)


def test_negatives_have_as_many_keys_as_documents():
    model, x = compiled(dense()), batch(negatives=2)
    one = np.arange(ROWS) % 3
    losses = [
        loss_of(model, {**x, "negative_keys": keys}, y)[0]
        for y, keys in (
            (one, x["negative_keys"]),
            (one[:, None], x["negative_keys"]),
            (one[:, None], x["negative_keys"][..., None]),
            (
                np.stack([one, one], axis=1),
                np.stack([x["negative_keys"]] * 2, axis=2),
            ),
        )
    ]
    assert losses == [losses[0]] * 4


def test_weights_scale_the_cost_of_queries():
    model, x = compiled(dense()), batch()
    alone = [loss_of(model, x, weights=row)[0] for row in np.eye(ROWS)]
    assert loss_of(model, x)[0] == pytest.approx(sum(alone), rel=1e-5)
    weighted = model.evaluate(
        x, np.arange(ROWS), sample_weight=np.arange(7.0), verbose=0
    )[0]
    assert weighted == pytest.approx(np.dot(alone, np.arange(7)), rel=1e-4)


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_refuses_weights_that_keras_would_drop(method):
    run = getattr(compiled(dense()), method)
    with pytest.raises(ValueError, match="Keras drops weights without labels"):
        run(batch(), sample_weight=np.ones(ROWS), verbose=0)


def test_losses_of_layers_are_kept():
    regular = dense(activity_regularizer=keras.regularizers.L2(0.5))
    plain = dense()
    plain.set_weights(regular.get_weights())
    x = batch()
    loss, _ = loss_of(compiled(regular), x)
    without, _ = loss_of(compiled(plain), x)
    added = sum(
        0.5 * np.sum(np.square(plain(x[role]))) / ROWS
        for role in ("query", "document")
    )
    # Of both calls of the shared encoder.
    assert loss == pytest.approx(without + added, rel=1e-5)


def test_warns_once_where_there_is_nothing_to_learn():
    model, x = compiled(dense()), batch(2)
    with pytest.warns(UserWarning, match="no negatives: the loss is 0"):
        history = model.fit(x, batch_size=1, verbose=0)
    assert history.history["loss"] == [0.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x, batch_size=1, verbose=0)
        compiled(dense()).fit(x, batch_size=2, verbose=0)
    with pytest.warns(UserWarning, match="labels that not all rows share"):
        loss_of(compiled(dense()), x, np.array([4, 4]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must be positive"),
        ({"num_hard_negatives": 0}, "`num_hard_negatives` must be a positive"),
        ({"document_encoder": len}, "`document_encoder` must be a Keras model"),
    ],
)
def test_refuses_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        DualEncoder(dense(), **options)


def test_refuses_inputs_and_labels():
    model, x = compiled(dense()), batch(negatives=1)
    with pytest.raises(ValueError, match="`y` must be integers.*float64"):
        loss_of(model, batch(), np.ones(ROWS))
    with pytest.raises(ValueError, match="dictionary with 'query'"):
        model({"text": x["query"]})
    with pytest.raises(ValueError, match="'query' and 'document' to train"):
        loss_of(model, {"query": x["query"]})
    with pytest.raises(ValueError, match=r"number, \*\(2,\)\].*shape=\(7, 1\)"):
        loss_of(model, x, np.zeros((ROWS, 2), int))
    keys = x.pop("negative_keys")
    with pytest.raises(ValueError, match="'?`negative_keys` must be integers"):
        loss_of(model, {**x, "negative_keys": keys / 2}, np.arange(ROWS))
    assert np.isfinite(loss_of(model, x)[0])
    with pytest.raises(ValueError, match="must hold 'negative_keys' where"):
        loss_of(model, x, np.arange(ROWS))
    with pytest.raises(ValueError, match="`loss` and `metrics` must be left"):
        model.compile("sgd", loss="mse")
    other = keras.Sequential(
        [keras.Input((SIZE,)), keras.layers.Dense(DIM + 1)]
    )
    with pytest.raises(ValueError, match="one size. Received: 3 of queries, 4"):
        loss_of(compiled(dense(), other), batch())
