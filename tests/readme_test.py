"""The code of README and quickstart runs as it stands."""

import pathlib
import re
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.long

ROOT = pathlib.Path(__file__).parents[1]
QUICKSTART = "docs/quickstart.md"


def python_blocks(page):
    text = (ROOT / page).read_text()
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_first_example(tmp_path, monkeypatch):
    """A reader of the README copies it whole, and gets a served model."""
    monkeypatch.chdir(tmp_path)
    (block,) = python_blocks("README.md")
    names = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*gets no mask")
        exec(block, names)
    tokens = names["tokens"][:3, :4].astype("int32")
    served = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(
        served.serve(tokens), names["model"](tokens), rtol=1e-4, atol=1e-5
    )


def test_readme_is_short():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150


def test_links_of_readme_and_docs():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for page in [*pages, *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.usefixtures("functions_run_eagerly")
def test_a_model_of_your_own(tmp_path, monkeypatch):
    """The first example, with no name but those that it defines."""
    monkeypatch.chdir(tmp_path)
    names = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*gets no mask")
        exec(python_blocks(QUICKSTART)[0], names)
    tokens = names["tokens"]
    served = tf.saved_model.load(str(tmp_path / "exported"))
    assert served.serve(tokens[:3, :4].astype("int32")).shape == (3, 4, 1000)
    exec(python_blocks(QUICKSTART)[1], names)
    assert (tmp_path / "load.png").stat().st_size > 1000
    assert list((tmp_path / "logs").iterdir())


def test_long_sequences():
    keras.utils.set_random_seed(0)
    names = {"keras": keras}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*relative_variance")
        exec(python_blocks(QUICKSTART)[2], names)
    assert names["error"] < 0.1
    np.testing.assert_allclose(
        names["first"], names["outputs"][:, :1], atol=1e-5
    )


# Smaller than on the page: each layer is compiled many times.
SMALLER = {
    "encoder_layers": (4, 1),
    # The fewest of a decoder with exits and experts.
    "decoder_layers": (4, 2),
    "model_dim": (256, 16),
    "hidden_dim": (1024, 32),
    "num_heads": (8, 2),
    "num_experts": (8, 4),
}


@pytest.mark.usefixtures("servers_look_often")
def test_a_whole_model(tmp_path, monkeypatch, run_eagerly):
    monkeypatch.chdir(tmp_path)
    ids = np.random.default_rng(0).integers(1, 1000, size=(2, 5))
    names = {
        "source": ids,
        "target": ids,
        "tokenize": lambda words: {
            "encoder_token_ids": tf.strings.unicode_decode(
                words, "UTF-8"
            ).to_tensor()
        },
        "detokenize": lambda ids: tf.strings.reduce_join(
            tf.strings.as_string(ids), axis=1, separator=" "
        ),
    }
    make, certify, distil = python_blocks(QUICKSTART)[3:]
    for name, (size, smaller) in SMALLER.items():
        assert make.count(f"{name}={size},") == 1
        make = make.replace(f"{name}={size},", f"{name}={smaller},")
    exec(make, names)
    # To compile a training by XLA takes seconds more.
    names["model"].supports_jit = False
    assert names["answers"]["outputs"].shape == (1,)
    assert names["answer"].shape == (2, 32)
    names["held_out"] = np.random.default_rng(1).integers(1, 1000, (70, 5))
    exec(eagerly(certify, "trainer", run_eagerly), names)
    served = tf.saved_model.load(str(tmp_path / "models/mine/2"))
    answer = served.signatures["serving_default"](inputs=tf.constant(["hi"]))
    assert answer["exit_layer"].shape == (1, 32)
    assert names["certificate"].threshold <= 1.0
    exec(eagerly(distil, "distiller", run_eagerly), names)
    student = keras.saving.load_model(tmp_path / "student.keras")
    assert student.config.num_experts == 0


def eagerly(code, name, run_eagerly):
    """Sets how a model is trained, after it was compiled."""
    fit = f"{name}.fit("
    assert code.count(fit) == 1
    return code.replace(fit, f"{name}.run_eagerly = {run_eagerly}\n{fit}")


@pytest.mark.large
def test_quickstart():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/quickstart.py")],
        capture_output=True,
        text=True,
        check=True,
    )
    loss = float(re.search(r"loss: (\d\.\d+)\ntokens", done.stdout)[1])
    assert loss < 0.3
    assert "after export: 0.0e+00" in done.stdout
