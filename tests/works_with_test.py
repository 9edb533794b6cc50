"""What `docs/works_with.md` says works, where no other file tests it."""

import collections
import csv

import keras
import keras_rs
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_file_loader

from keras_moe import layers

RNG = np.random.default_rng(0)
IDS = RNG.integers(1, 12, (4, 6)).astype("int32")
IDS[1, 4:] = IDS[3, 2:] = 0
LABELS = RNG.normal(size=(4, 3)).astype("float32")
LARGE = pytest.mark.large


def make(num_experts=4, length=None, dispatch="auto", router=None):
    if router is None:
        # Has a state that no gradient moves. Keras restores no random draws.
        router = layers.BiasBalancedRouter(
            bias_update_rate=0.1, router_z_loss_weight=0.01, jitter_noise=0.0
        )
    ids = keras.Input((length,), dtype="int32", name="ids")
    x = keras.layers.Embedding(12, 8, "normal", mask_zero=True, name="e")(ids)
    moe = layers.SparseMoE(
        num_experts,
        16,
        router=router,
        dispatch=dispatch,
        kernel_initializer="glorot_normal",
        name="moe",
    )
    x = layers.MeanPooling()(keras.layers.Add()([x, moe(x)]))
    return keras.Model(ids, keras.layers.Dense(3, name="head")(x))


def compiled(model=None, optimizer="adam", run_eagerly=True):
    model = model or make()
    model.compile(optimizer, "mse", jit_compile=False, run_eagerly=run_eagerly)
    return model


def fit(model, *callbacks, labels=LABELS, **options):
    return model.fit(
        *(IDS, labels),
        batch_size=2,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **options,
    )


def assert_equal(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


class Watch(keras.callbacks.Callback):
    """Keeps the weights at the end of each epoch and of each batch."""

    def set_model(self, model):
        super().set_model(model)
        self.of_epochs, self.of_batches = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.of_epochs.append(self.model.get_weights())

    def on_train_batch_end(self, batch, logs=None):
        self.of_batches.append(self.model.get_weights())


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A training that goes wrong after its first epoch, with callbacks."""
    folder = tmp_path_factory.mktemp("watched")
    model, watch = compiled(), Watch()
    history = fit(
        model,
        watch,
        keras.callbacks.LearningRateScheduler(
            lambda epoch: [0.01, 3.0, 3.0, 3.0][epoch]
        ),
        *(
            keras.callbacks.ModelCheckpoint(
                folder / name,
                monitor="loss",
                save_best_only=True,
                save_weights_only="weights" in name,
            )
            for name in ("best.keras", "best.weights.h5")
        ),
        keras.callbacks.CSVLogger(folder / "log.csv"),
        keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
        keras.callbacks.EarlyStopping(
            "loss", patience=2, restore_best_weights=True
        ),
        epochs=4,
    )
    return model, watch, history.history, folder


def test_early_stopping_restores_the_state_of_routers(watched):
    model, watch, logs, _ = watched
    best = int(np.argmin(logs["loss"]))
    assert len(watch.of_epochs) == best + 3 <= 4
    assert_equal(model.get_weights(), watch.of_epochs[best])
    # The bias of the router, which no gradient moves, is one of them.
    (bias,) = (
        i for i, w in enumerate(model.weights) if "expert_bias" in w.path
    )
    first, last = watch.of_epochs[best], watch.of_epochs[-1]
    assert np.any(first[bias] != last[bias])


@pytest.mark.parametrize("name", ["best.keras", "best.weights.h5"])
def test_model_checkpoint_keeps_the_best(watched, name):
    model, _, _, folder = watched
    if name.endswith(".keras"):
        loaded = keras.saving.load_model(folder / name, safe_mode=True)
    else:
        loaded = make()
        loaded.load_weights(folder / name)
    assert_equal(loaded.get_weights(), model.get_weights())
    np.testing.assert_array_equal(loaded(IDS), model(IDS))


def test_the_scheduler_sets_the_rate(watched):
    _, _, logs, _ = watched
    np.testing.assert_allclose(
        logs["learning_rate"], [0.01, 3.0, 3.0][: len(logs["loss"])]
    )


def test_csv_logger_has_the_figures_of_routers(watched):
    _, _, logs, folder = watched
    with open(folder / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(logs["loss"])
    for name in ("loss", "moe/expert_load_cv", "moe/router_z_loss"):
        np.testing.assert_allclose([float(r[name]) for r in rows], logs[name])
        assert np.all(logs[name])


def test_tensorboard_has_the_figures_of_routers(watched):
    _, _, logs, folder = watched
    found = collections.defaultdict(list)
    for path in (folder / "logs" / "train").iterdir():
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found[value.tag].append(tf.make_ndarray(value.tensor))
    for name in ("loss", "moe/expert_load_cv", "moe/router_z_loss"):
        np.testing.assert_allclose(found[f"epoch_{name}"], logs[name], 1e-6)


def test_reduce_on_plateau_follows_a_figure_of_routers():
    reduce = keras.callbacks.ReduceLROnPlateau(
        "moe/expert_load_cv",
        mode="min",
        factor=0.5,
        patience=1,
        min_delta=100.0,
    )
    logs = fit(compiled(), reduce, epochs=3).history
    rate = logs["learning_rate"]
    np.testing.assert_allclose(rate, [0.001, 0.001, 0.0005])


def test_swap_ema_swaps_weights_and_leaves_the_state_of_routers():
    momentum, watch = 0.5, Watch()
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=momentum)
    model = compiled(optimizer=optimizer)
    fit(model, watch, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    first, last = watch.of_batches
    for i, variable in enumerate(model.weights):
        expected = last[i]
        if variable.trainable:
            expected = momentum * first[i] + (1 - momentum) * last[i]
        np.testing.assert_allclose(variable, expected, atol=1e-6)


def test_training_ends_at_a_loss_that_is_no_number():
    model, watch = compiled(), Watch()
    labels = np.full_like(LABELS, np.nan)
    stop = keras.callbacks.TerminateOnNaN()
    fit(model, watch, stop, labels=labels, epochs=2)
    assert len(watch.of_batches) == 1
    bias = model.get_layer("moe").router.expert_bias
    assert np.all(np.isfinite(bias)) and np.any(bias)


def test_backup_and_restore_goes_on_as_if_nothing_had_been(tmp_path):
    def die(epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    start = make()
    whole, broken, again = (keras.models.clone_model(start) for _ in range(3))
    for model in (whole, broken, again):
        model.set_weights(start.get_weights())
        compiled(model)
    fit(whole, epochs=2)
    keep = keras.callbacks.BackupAndRestore(tmp_path)
    die = keras.callbacks.LambdaCallback(on_epoch_begin=die)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, keep, die, epochs=2)
    assert np.any(broken.get_weights()[0] != whole.get_weights()[0])
    logs = fit(again, keras.callbacks.BackupAndRestore(tmp_path), epochs=2)
    assert logs.epoch == [1]
    assert_equal(again.get_weights(), whole.get_weights())
    assert_equal(*(m.optimizer.variables for m in (again, whole)))


@pytest.mark.filterwarnings(
    "ignore:(currentThread|getName)..:DeprecationWarning"
)
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_keras_tuner_chooses_the_number_of_experts(tmp_path):
    sizes = []

    def build(hp):
        sizes.append(hp.Choice("num_experts", [2, 4]))
        return compiled(make(sizes[-1]))

    tuner = keras_tuner.GridSearch(
        build,
        # A figure of the router as well as the loss.
        keras_tuner.Objective("val_moe/expert_load_cv", "min"),
        directory=tmp_path,
    )
    tuner.search(IDS, LABELS, validation_data=(IDS, LABELS), verbose=0)
    assert set(sizes) == {2, 4}
    (best,) = tuner.get_best_models()
    (trial,) = tuner.oracle.get_best_trials()
    scores = [t.score for t in tuner.oracle.trials.values()]
    assert len(scores) == 2 and trial.score == min(scores) < max(scores)
    assert best.get_layer("moe").num_experts == trial.hyperparameters.get(
        "num_experts"
    )
    measured = best.evaluate(IDS, LABELS, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        measured["moe/expert_load_cv"], trial.score, rtol=1e-5
    )


def test_layers_of_keras_rs_before_and_behind_experts(tmp_path):
    ids = keras.Input((6,), dtype="int32")
    x = keras_rs.layers.EmbedReduce(12, 8, combiner="mean")(ids)
    crossed = keras_rs.layers.FeatureCross()(x, x)
    y = layers.SparseMoE(4, 16, name="moe")(crossed)
    y = keras_rs.layers.DotInteraction()([x, crossed, y])
    model = compiled(keras.Model(ids, keras.layers.Dense(3)(y)))
    before = model.get_layer("moe").get_weights()
    logs = fit(model).history
    assert np.isfinite(logs["loss"]).all() and logs["moe/expert_load_cv"][0] > 0
    after = model.get_layer("moe").get_weights()
    # Gradients come through the layer behind: kernels of experts move.
    assert all(
        np.any(a != b) for a, b in zip(after, before, strict=True) if a.ndim
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IDS), model(IDS))


def rows():
    """Token ids without padding, of different lengths."""
    return [row[row > 0] for row in IDS]


def padded(drop_remainder):
    def draw():
        yield from zip(rows(), LABELS, strict=True)

    spec = tf.TensorSpec((None,), tf.int32), tf.TensorSpec((3,), tf.float32)
    examples = tf.data.Dataset.from_generator(draw, output_signature=spec)
    return examples.padded_batch(3, drop_remainder=drop_remainder)


def ragged(drop_remainder):
    examples = tf.data.Dataset.from_tensor_slices(
        (tf.ragged.stack(rows()), LABELS)
    )
    batches = examples.ragged_batch(3, drop_remainder=drop_remainder)
    return batches.map(lambda x, y: (x.to_tensor(), y))


def of_unknown_rank(drop_remainder):
    """As of a `py_function`, which says no shapes; the user does."""

    def forget(*batch):
        return tf.numpy_function(lambda *x: x, batch, (tf.int32, tf.float32))

    def say(x, y):
        return tf.ensure_shape(x, (None, None)), tf.ensure_shape(y, (None, 3))

    return padded(drop_remainder).map(forget).map(say)


@pytest.mark.parametrize(
    "batches, drop_remainder",
    [
        (ragged, False),
        *(
            pytest.param(*each, marks=LARGE)
            for each in [
                (ragged, True),
                (padded, False),
                (padded, True),
                (of_unknown_rank, False),
                (of_unknown_rank, True),
            ]
        ),
    ],
)
def test_batches_of_tf_data(batches, drop_remainder, run_eagerly):
    """The last batch is smaller, and each as long as its longest row."""
    batches = batches(drop_remainder)
    model = compiled(run_eagerly=run_eagerly)
    begin = model.get_weights()
    logs = model.fit(batches, epochs=2, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert np.any(model.get_weights()[0] != begin[0])
    count = 3 if drop_remainder else 4
    predicted = model.predict(batches.map(lambda x, y: x), verbose=0)
    alone = [model(row[np.newaxis])[0] for row in rows()[:count]]
    np.testing.assert_allclose(predicted, alone, atol=1e-5)
