"""How hard targets are for a model, against a slow calculation."""

import keras
import numpy as np
import pytest

from keras_moe.metrics import supervision_complexity

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 3)).astype("float32")
LABELS = (X[:, 0] + 0.3 * X[:, 1] > 0).astype("int64") + (X[:, 0] > 1)


def make(seed=0, **options):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input([3]),
            keras.layers.Dense(8, activation="tanh", **options),
            keras.layers.Dense(3, **options),
        ]
    )


def by_hand(model, y, ridge):
    """By finite differences, weight by weight."""
    rows = []
    for variable in model.trainable_variables:
        value = variable.numpy()
        for place in np.ndindex(value.shape):
            outputs = []
            for step in (1e-2, -1e-2):
                moved = value.copy()
                moved[place] += step
                variable.assign(moved)
                outputs.append(np.asarray(model(X), "float64"))
            variable.assign(value)
            rows.append((outputs[0] - outputs[1]) / 2e-2)
    derivatives = np.stack(rows, -1)  # [n, outputs, weights]
    kernel = sum(derivatives[:, k] @ derivatives[:, k].T for k in range(3)) / 3
    trace = np.trace(kernel)
    inverse = np.linalg.inv(kernel + ridge * trace / 24 * np.eye(24))
    centred = y - y.mean(axis=0)
    return np.sqrt(np.trace(centred.T @ inverse @ centred) * trace) / 24


@pytest.mark.parametrize("ridge", [1e-2, 1e-1])
def test_equals_finite_differences(ridge):
    model = make()
    y = np.eye(3)[LABELS]
    expected = by_hand(model, y, ridge)
    assert supervision_complexity(model, X, LABELS, ridge) == pytest.approx(
        expected, rel=2e-2
    )
    assert supervision_complexity(model, X, y, ridge) == pytest.approx(
        supervision_complexity(model, X, LABELS, ridge)
    )


def test_grows_from_clean_to_shuffled_labels():
    noisy = LABELS.copy()
    noisy[::5] = (noisy[::5] + 1) % 3
    shuffled = RANDOM.permutation(LABELS)
    found = [
        supervision_complexity(make(), X, targets)
        for targets in (LABELS, noisy, shuffled)
    ]
    assert found == sorted(found) and len(set(found)) == 3


def test_scales_with_the_targets_and_not_with_the_kernel():
    model, y = make(), np.eye(3)[LABELS]
    whole = supervision_complexity(model, X, y)
    assert supervision_complexity(model, X, y / 2 + 7) == pytest.approx(
        whole / 2, rel=1e-6
    )
    inputs = keras.Input([3])
    scaled = keras.Model(inputs, keras.layers.Rescaling(3.0)(model(inputs)))
    assert supervision_complexity(scaled, X, y) == pytest.approx(
        whole, rel=1e-4
    )


def test_dropout_and_frozen_weights():
    model = make()
    plain = supervision_complexity(model, X, LABELS)
    inputs = keras.Input([3])
    dropped = keras.Model(inputs, keras.layers.Dropout(0.5)(model(inputs)))
    assert supervision_complexity(dropped, X, LABELS) == pytest.approx(plain)
    before = model.get_weights()
    model.layers[0].trainable = False
    assert supervision_complexity(model, X, LABELS) != pytest.approx(plain)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_half_precision():
    model = make(dtype="mixed_float16")
    found = supervision_complexity(model, X, LABELS, ridge=1e-1)
    full = supervision_complexity(make(), X, LABELS, ridge=1e-1)
    assert found == pytest.approx(full, rel=0.05)


def test_a_model_with_a_table():
    """One row of a table an example: the kernel says which share a row."""
    ids = np.array([0, 1, 0, 2])
    inputs = keras.Input([], dtype="int32")
    model = keras.Model(inputs, keras.layers.Embedding(3, 2)(inputs))
    y = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [-2.0, 0.0]])
    kernel = (ids[:, None] == ids) / 1.0
    inverse = np.linalg.inv(kernel + 0.5 * np.eye(4))
    expected = np.sqrt(np.trace(y.T @ inverse @ y) * 4) / 4
    found = supervision_complexity(model, ids, y, ridge=0.5)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.ones((24, 2)), r"must be \[24, 3\], as the model's outputs"),
        (np.ones(23, int), "or 24 classes"),
        (LABELS.astype(float), "or 24 classes"),
        (np.full(24, 3), r"classes in \[0, 3\). Received: 3 to 3"),
        (np.full((24, 3), np.nan), "must be numbers"),
    ],
)
def test_targets_that_are_none(targets, message):
    with pytest.raises(ValueError, match=message):
        supervision_complexity(make(), X, targets)


def test_models_that_learn_nothing():
    with pytest.raises(ValueError, match="`ridge` must be positive"):
        supervision_complexity(make(), X, LABELS, ridge=0.0)
    frozen = make()
    frozen.trainable = False
    with pytest.raises(ValueError, match="must have trainable weights"):
        supervision_complexity(frozen, X, LABELS)
    broken = make()
    broken.layers[-1].bias.assign([np.nan] * 3)
    broken.layers[0].kernel.assign(np.full((3, 8), np.nan))
    with pytest.raises(ValueError, match="a tangent kernel of trace nan"):
        supervision_complexity(broken, X, LABELS)


def test_one_example_has_no_complexity():
    with pytest.raises(ValueError, match="at least 2 examples.*Received: 1"):
        supervision_complexity(make(), X[:1], LABELS[:1])
    assert supervision_complexity(make(), X[:2], np.array([0, 1])) > 0.0
