"""Which choices of a token the load-balancing loss counts."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from keras_moe import losses
from keras_moe.layers.routers._presets import ROUTERS


def probabilities_of(router, x):
    return tf.nn.softmax(x @ router.kernel.numpy(), axis=-1).numpy()


def first_choices(probabilities):
    """The loss in the words of GShard's algorithm 1, times E squared.

    Mean over experts of `c_e / S * m_e`; so do mesh-tensorflow's top-2 and
    DeepSpeed's `top2gating` compute it.
    """
    groups = []
    for group in probabilities:
        size, experts = group.shape
        count = np.bincount(group.argmax(axis=-1), minlength=experts)
        mean = np.mean(count / size * group.mean(axis=0))
        groups.append(experts**2 * mean)
    return np.mean(groups)


def both_choices(probabilities):
    chosen = np.argsort(-probabilities, axis=-1)[..., :2]
    return float(losses.load_balancing_loss(probabilities, None, chosen))


def balance_of(router, x):
    router.build((None, None, x.shape[-1]))
    rng = np.random.default_rng(1)
    router.kernel.assign(rng.normal(size=router.kernel.shape))
    router(x)
    return float(router.losses[0]) / router.load_balancing_loss_weight


def data():
    return np.random.default_rng(0).normal(size=(3, 20, 5)).astype("float32")


@pytest.mark.parametrize("name", ["gshard", "glam"])
def test_presets_of_papers_count_first_choices(name):
    router, x = ROUTERS[name](4), data()
    balance = balance_of(router, x)
    probabilities = probabilities_of(router, x)
    assert balance == pytest.approx(first_choices(probabilities), rel=1e-5)
    assert balance != pytest.approx(both_choices(probabilities), rel=1e-2)
    assert len(router.losses) == 1  # neither paper has a z-loss


@pytest.mark.parametrize("number", [None, 1, 2])
def test_a_setting_of_the_router_that_is_kept(number):
    router = layers.TopKRouter(4, num_balanced_choices=number)
    router, x = layers.TopKRouter.from_config(router.get_config()), data()
    balance = balance_of(router, x)
    expected = first_choices if number == 1 else both_choices
    assert balance == pytest.approx(
        expected(probabilities_of(router, x)), rel=1e-5
    )


def test_refuses_no_choice():
    with pytest.raises(ValueError, match="num_balanced_choices=0"):
        layers.TopKRouter(4, num_balanced_choices=0)


def test_switch_by_name_has_the_one_loss_of_its_paper():
    router = ROUTERS["switch"](4)
    assert router.router_z_loss_weight == 0.0
    assert ROUTERS["switch"](4, router_z_loss_weight=0.1).router_z_loss_weight
