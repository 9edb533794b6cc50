"""On Keras's JAX backend the parts give what they give on TensorFlow."""

import numpy as np
import pytest

from tests import on_jax_case
from tests import on_jax_models_case
from tests.jax_program import run_on_jax

# Another environment is made, and many programs are compiled.
pytestmark = pytest.mark.large


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What trials give on TensorFlow and on JAX, from the same weights."""
    folder = tmp_path_factory.mktemp("jax")
    ran = {name: on_jax_case.run(name) for name in on_jax_case.TRIALS}
    ran |= {
        name: on_jax_models_case.run(name) for name in on_jax_models_case.FITS
    }
    on_jax_case.save(
        folder / "weights.npz", {name: ran[name][0] for name in ran}
    )
    run_on_jax(
        "tests.on_jax_case", folder / "weights.npz", folder / "found.npz"
    )
    found = on_jax_case.load(folder / "found.npz")
    return {name: (ran[name][1], found[name]) for name in ran}


@pytest.mark.parametrize(
    "name", [*on_jax_case.TRIALS, *on_jax_models_case.FITS]
)
def test_jax_gives_what_tensorflow_gives(both, name):
    expected, found = both[name]
    assert set(found) == set(expected)
    # Something has a gradient, and not only zeros.
    assert any(
        np.abs(array).max() > 1e-3
        for key, array in expected.items()
        if key.startswith(("gradient", "after"))
    )
    for key, array in expected.items():
        size = max(1.0, np.abs(array).max(initial=0))
        np.testing.assert_allclose(
            found[key], array, rtol=0, atol=1e-5 * size, err_msg=key
        )
