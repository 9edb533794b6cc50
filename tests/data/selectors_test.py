"""Each selector against a slow and obvious calculation."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import data

RANDOM = np.random.default_rng(0)
P, Q = (RANDOM.dirichlet(np.ones(4), size=30) for _ in range(2))
LABELS = RANDOM.integers(0, 4, 30)
POOL = np.arange(30)

SELECTORS = [
    data.RandomSelector(),
    data.MarginSelector(),
    data.EntropySelector(),
    data.ImportanceSelector("entropy"),
    data.ImportanceSelector("disagreement", min_probability=0.01),
    data.RobustActiveSelector(num_adversarial=5),
]


def first(x):
    return P[x]


def second(x):
    return Q[x]


def models_of(selector):
    return [None, first, (first, second)][selector.num_models]


def names(selector):
    return f"{type(selector).__name__}-{getattr(selector, 'mode', '')}"


@pytest.fixture(params=SELECTORS, ids=names)
def selector(request):
    return request.param


def test_entropy():
    found = data.EntropySelector().probabilities(first, POOL)
    slow = [-sum(p * np.log(p) for p in row) / np.log(4) for row in P]
    np.testing.assert_allclose(found, slow)
    same = data.ImportanceSelector("entropy").probabilities(first, POOL)
    np.testing.assert_array_equal(found, same)


def test_margin():
    found = data.MarginSelector().probabilities(first, POOL)
    slow = [1 - (sorted(row)[-1] - sorted(row)[-2]) for row in P]
    np.testing.assert_allclose(found, slow)


def test_disagreement():
    selector = data.ImportanceSelector("disagreement")
    found = selector.probabilities((first, second), (POOL, LABELS))
    slow = [
        abs(-p[y] * np.log2(p[y]) + q[y] * np.log2(q[y]))
        for p, q, y in zip(P, Q, LABELS, strict=True)
    ]
    np.testing.assert_allclose(found, slow)


def worst_case(q, gains, adversarial):
    """What is left of the gain where an adversary spoils the best labels."""
    return np.sort(q * gains)[: len(q) - adversarial].sum()


def test_the_robust_draw_is_the_best_in_the_worst_case():
    selector = data.RobustActiveSelector(num_adversarial=2)
    few = np.arange(6)
    q = selector.probabilities(first, few)
    gains = data.MarginSelector().probabilities(first, few)
    value = worst_case(q, gains, 2)
    assert q.sum() == pytest.approx(1.0)
    steps = np.linspace(0, 1, 5)
    others = [
        np.array(point) / sum(point)
        for point in itertools.product(steps, repeat=6)
        if sum(point) > 0
    ]
    assert value >= max(worst_case(p, gains, 2) for p in others) - 1e-9


def test_an_adversary_of_all_rows_leaves_a_draw():
    selector = data.RobustActiveSelector(num_adversarial=1000)
    q = selector.probabilities(first, POOL)
    assert (q > 0).all()


def test_logits_say_what_probabilities_say(selector):
    logits = type(selector).from_config(
        {**selector.get_config(), "from_logits": True}
    )
    shifted = [lambda x: np.log(P[x]) + 3.0, lambda x: np.log(Q[x]) - 1.0]
    models = [None, shifted[0], tuple(shifted)][selector.num_models]
    np.testing.assert_allclose(
        logits.probabilities(models, (POOL, LABELS)),
        selector.probabilities(models_of(selector), (POOL, LABELS)),
    )


def test_probabilities_of_a_keras_model_over_a_data_set(selector):
    x = RANDOM.normal(size=(30, 3)).astype("float32")
    model = keras.Sequential(
        [keras.Input([3]), keras.layers.Dense(4, activation="softmax")]
    )
    models = [None, model, (model, model)][selector.num_models]
    dataset = tf.data.Dataset.from_tensor_slices((x, LABELS)).batch(7)
    np.testing.assert_allclose(
        selector.probabilities(models, dataset),
        selector.probabilities(models, (x, LABELS)),
        rtol=1e-4,
        atol=1e-6,
    )


def test_config_round_trip(selector):
    config = keras.saving.serialize_keras_object(selector)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(selector)
    assert again.get_config() == selector.get_config()


def test_a_sure_model_wants_nothing():
    def sure(x):
        return np.eye(4)[LABELS[x]]

    for mode, models in (("entropy", sure), ("disagreement", (sure, sure))):
        selector = data.ImportanceSelector(mode)
        found = selector.probabilities(models, (POOL, LABELS))
        np.testing.assert_array_equal(found, np.zeros(30))
    forbidding = data.EntropySelector(from_logits=True)
    logits = np.array([[0.0, 0.0, -np.inf]])
    found = forbidding.probabilities(lambda x: logits, np.zeros(1))
    np.testing.assert_allclose(found, np.log(2) / np.log(3))


def test_no_probability_is_below_the_least():
    plain, bounded = (
        data.ImportanceSelector("disagreement", min_probability=least)
        for least in (0.0, 0.2)
    )
    given = (first, second), (POOL, LABELS)
    found = bounded.probabilities(*given)
    np.testing.assert_array_equal(
        found, np.maximum(plain.probabilities(*given), 0.2)
    )
    assert (found == 0.2).any() and (found > 0.2).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.ImportanceSelector("both"), "`mode` must be one of"),
        (
            lambda: data.ImportanceSelector(min_probability=1.0),
            r"`min_probability` must be in \[0, 1\)",
        ),
        (
            lambda: data.ImportanceSelector(weight_cap=0.5),
            "`weight_cap` must be at least 1",
        ),
        (
            lambda: data.ImportanceSelector(weight_cap=np.nan),
            "`weight_cap` must be at least 1",
        ),
        (
            lambda: data.RobustActiveSelector(0),
            "`num_adversarial` must be a positive integer",
        ),
    ],
)
def test_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (np.full((30, 4), 0.5), "make the selector with `from_logits=True`"),
        (np.full((30, 4), np.nan), "NaN or infinity at row 0"),
        (np.ones((30, 1)), "of 2 classes or more"),
        (np.ones(30), "must give an output"),
    ],
)
def test_answers_that_are_none(outputs, message):
    with pytest.raises(ValueError, match=message):
        data.MarginSelector().probabilities(lambda x: outputs, POOL)


def test_models_and_labels_that_do_not_fit():
    selector = data.ImportanceSelector("disagreement")
    both = (first, second)
    with pytest.raises(ValueError, match="`model` must be 2 for Importance"):
        selector.probabilities(first, (POOL, LABELS))
    with pytest.raises(ValueError, match="must be a Keras model, or a func"):
        data.MarginSelector().probabilities(P, POOL)
    with pytest.raises(ValueError, match="Labels are needed"):
        selector.probabilities(both, POOL)
    with pytest.raises(ValueError, match=r"must be in \[0, 4\), .*: 0 to 4"):
        selector.probabilities(both, (POOL, [4] + [0] * 29))
    with pytest.raises(ValueError, match="must be 30 integers"):
        selector.probabilities(both, (POOL, LABELS[:3]))
    with pytest.raises(ValueError, match="outputs of one shape"):
        selector.probabilities(
            (first, lambda x: np.ones((30, 2)) / 2), (POOL, LABELS)
        )


@pytest.mark.parametrize("labelled", [False, True])
def test_a_data_set_of_rows_is_no_pool(labelled):
    network = keras.Sequential(
        [keras.Input([3]), keras.layers.Dense(2, activation="softmax")]
    )
    x = np.ones([8, 3], "float32")
    rows = tf.data.Dataset.from_tensor_slices(
        (x, np.zeros(8, "int32")) if labelled else x
    )
    with pytest.raises(ValueError, match=r"`\.batch\(256\)`"):
        data.MarginSelector().select(network, rows, budget=2)
    chosen = data.MarginSelector().select(network, rows.batch(5), budget=2)
    assert len(chosen.indices) == 2


def test_keras_adds_a_last_axis_of_one():
    network = keras.Sequential(
        [keras.Input([1]), keras.layers.Dense(2, activation="softmax")]
    )
    batches = tf.data.Dataset.range(6).batch(4)
    chosen = data.MarginSelector().select(network, batches, budget=2)
    assert len(chosen.indices) == 2
