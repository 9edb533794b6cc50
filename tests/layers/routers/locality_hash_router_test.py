import keras
import numpy as np
import pytest

from keras_moe import layers
from tests.layers.moe.sparse_moe_case import make


def built(num_experts=8, dim=32, **kwargs):
    router = layers.LocalityHashRouter(num_experts, **kwargs)
    router.build((None, None, dim))
    return router


def experts(router, vectors):
    vectors = np.asarray(vectors, "float32")
    plan = router(vectors[None] if vectors.ndim == 2 else vectors)
    return np.asarray(plan.expert_index)[..., 0].reshape(-1)


def vectors(n=400, dim=32):
    return np.random.normal(size=(n, dim))


def test_the_same_vector_has_the_same_expert():
    router, x = built(), vectors()
    found = experts(router, x)
    np.testing.assert_array_equal(experts(router, x), found)
    # Wherever it stands, and however long it is.
    np.testing.assert_array_equal(experts(router, x[::-1])[::-1], found)
    np.testing.assert_array_equal(experts(router, 7.0 * x), found)


def test_near_vectors_mostly_have_the_same_expert():
    router, x = built(), vectors(2000)
    found = experts(router, x)

    def share(noise):
        return np.mean(experts(router, x + noise * vectors(2000)) == found)

    near, further, far = share(0.02), share(0.3), share(100.0)
    assert near > 0.95
    assert near > further > far
    # Another vector is no more likely to meet it than by chance.
    assert far < 0.25


def test_all_experts_have_some_and_none_has_most():
    shares = np.bincount(experts(built(), vectors(4000)), minlength=8) / 4000
    assert shares.min() > 0.02 and shares.max() < 0.35


def test_the_hash_follows_the_seed():
    x = vectors()
    one, same, other = (experts(built(seed=s), x) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_nothing_is_learnt():
    layer = make(4, router=layers.LocalityHashRouter())
    assert not layer.router.trainable_weights
    inputs = np.random.normal(size=(2, 5, 6)).astype("float32")
    layer(inputs, training=True)
    assert not layer.losses


def test_saving_keeps_the_hash(tmp_path):
    inputs = keras.Input((None, 6))
    router = layers.LocalityHashRouter()
    model = keras.Model(inputs, layers.SparseMoE(4, 8, router=router)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.normal(size=(2, 9, 6)).astype("float32")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_noise_is_refused():
    with pytest.raises(ValueError, match="jitter_noise"):
        layers.LocalityHashRouter(4, jitter_noise=0.1)
