import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from tests.layers.moe.sparse_moe_case import DIM
from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import kernels
from tests.layers.moe.sparse_moe_case import make

SIZE = 30


def built(num_experts=4, **kwargs):
    router = layers.HashRouter(num_experts, vocabulary_size=SIZE, **kwargs)
    router.build((None, None, DIM))
    return router


def experts(router, ids, **kwargs):
    ids = np.asarray(ids)
    plan = router(data(*ids.shape), token_ids=ids, **kwargs)
    return np.asarray(plan.expert_index)[..., 0]


def every_id(router):
    return experts(router, np.arange(SIZE)[None])[0]


def test_an_id_has_one_expert_for_ever():
    router = built()
    table = every_id(router)
    for training in (False, True):
        ids = np.random.randint(0, SIZE, (3, 7))
        found = experts(router, ids, training=training)
        np.testing.assert_array_equal(found, table[ids])


@pytest.mark.parametrize("num_experts", [1, 3, 4, 7])
def test_experts_have_equally_many_ids(num_experts):
    counts = np.bincount(every_id(built(num_experts)), minlength=num_experts)
    assert counts.sum() == SIZE
    assert counts.max() - counts.min() <= 1


def test_the_table_follows_the_seed():
    one, same, other = (every_id(built(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, np.sort(one))  # and is no simple order


def test_the_table_follows_the_seed_of_all():
    tables = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        tables.append(every_id(built()))
    np.testing.assert_array_equal(*tables)


def test_a_table_of_ones_own():
    table = np.random.randint(0, 4, SIZE)
    np.testing.assert_array_equal(every_id(built(table=table)), table)


def test_nothing_is_learnt_and_the_weight_is_one():
    router = layers.HashRouter(vocabulary_size=SIZE, capacity_factor=None)
    layer = make(4, router=router)
    assert not layer.router.trainable_weights
    inputs, ids = data(2, 5), np.random.randint(0, SIZE, (2, 5))
    outputs = layer(inputs, token_ids=ids, training=True)
    assert not layer.losses
    w, table = kernels(layer), every_id(layer.router)
    for b, t in np.ndindex(2, 5):
        e = table[ids[b, t]]
        hidden = np.maximum(inputs[b, t] @ w["wi"][e], 0.0)
        np.testing.assert_allclose(
            outputs[b, t], hidden @ w["wo"][e], atol=1e-5
        )


def model(**kwargs):
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(SIZE, DIM, mask_zero=True)(ids)
    router = layers.HashRouter(vocabulary_size=SIZE, **kwargs)
    moe = layers.SparseMoE(4, 8, router=router, name="moe")
    return keras.Model(ids, moe(x, token_ids=ids))


def test_saving_keeps_the_table(tmp_path, run_eagerly):
    kept = model(table=np.random.randint(0, 4, SIZE).tolist())
    ids = np.random.randint(0, SIZE, (2, 6))
    kept.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(ids), kept(ids))
    np.testing.assert_array_equal(
        loaded.get_layer("moe").router.table,
        kept.get_layer("moe").router.table,
    )
    # Training leaves it alone.
    loaded.compile("sgd", "mse", jit_compile=False, run_eagerly=run_eagerly)
    loaded.fit(ids, data(2, 6), verbose=0)
    np.testing.assert_array_equal(
        loaded.get_layer("moe").router.table,
        kept.get_layer("moe").router.table,
    )


def test_a_copy_keeps_a_given_table():
    table = np.random.randint(0, 4, SIZE)
    router = built(table=table)
    copy = layers.HashRouter.from_config(router.get_config())
    copy.build((None, None, DIM))
    np.testing.assert_array_equal(copy.table, table)


def test_a_saved_model_takes_ids(tmp_path):
    kept = model()
    kept.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    ids = np.random.randint(0, SIZE, (2, 3)).astype("int32")
    np.testing.assert_allclose(served.serve(ids), kept(ids), atol=1e-6)


def test_groups_keep_tokens_and_ids_together():
    inputs, ids = data(2, 7), np.random.randint(0, SIZE, (2, 7))
    router = {"vocabulary_size": SIZE, "seed": 1}
    whole = make(4, router=layers.HashRouter(**router))
    for group_size in (4, 5, "sequence", "auto"):
        layer = make(
            4, router=layers.HashRouter(**router, group_size=group_size)
        )
        for mine, theirs in zip(layer.weights, whole.weights, strict=True):
            mine.assign(theirs)
        np.testing.assert_allclose(
            layer(inputs, token_ids=ids),
            whole(inputs, token_ids=ids),
            atol=1e-6,
        )


def test_capacity_drops_the_last():
    router = built(capacity_factor=1.0, min_expert_capacity=1)
    ids = np.full((1, 8), 3)
    plan = router(data(1, 8), token_ids=ids, training=True)
    kept = np.asarray(plan.slot_index)[0, :, 0] < 4 * 2
    np.testing.assert_array_equal(kept, np.arange(8) < 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size=0"),
        ({"jitter_noise": 0.1}, "jitter_noise.*0.1"),
        ({"load_balancing_loss_weight": 0.1}, "load_balancing_loss_weight"),
        ({"table": [0, 1]}, "`table`"),
        ({"table": [0, 4, 1], "vocabulary_size": 3}, "`table`"),
        ({"table": [0, -1, 1], "vocabulary_size": 3}, "`table`"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        router = layers.HashRouter(4, **arguments)
        router.build((None, None, DIM))


def test_ids_are_needed():
    with pytest.raises(ValueError, match="`token_ids`.*HashRouter"):
        built()(data(1, 3))


@pytest.mark.parametrize("shape", [(2, 4), (5,), (2, 5, 1)])
def test_ids_of_another_shape_are_refused(shape):
    layer = make(4, router=layers.HashRouter(vocabulary_size=SIZE))
    with pytest.raises(ValueError, match="`token_ids`"):
        layer(data(2, 5), token_ids=np.zeros(shape, int))
