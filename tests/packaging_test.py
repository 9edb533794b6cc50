"""What is built of a checkout, and what of it runs where nothing else is."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from benchmarks.shared import environment
from keras_moe.version import __version__

ROOT = pathlib.Path(__file__).parents[1]
UV = ROOT / ".venv" / "bin" / "uv"
PYTHONS = ["3.11", "3.12", "3.13"]
# What only extras bring.
ABSENT = ("tfx", "tensorflow_serving", "starlette", "typer", "matplotlib")


def test_the_citation_is_of_this_version():
    said = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", said, re.M)[1] == __version__


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source archive, and the wheel that is built of it."""
    folder = tmp_path_factory.mktemp("built")
    # Beside the checkout, which keeps what setuptools has built before.
    source = folder / "source"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "results"),
    )
    variables = environment.with_index()
    environment.run([UV, "build", "-q", source, "-o", folder], variables)
    (wheel,) = folder.glob("*.whl")
    (archive,) = folder.glob("*.tar.gz")
    return wheel, archive


@pytest.mark.large
def test_what_the_wheel_holds(built):
    wheel, _ = built
    name = f"keras_moe-{__version__}"
    assert wheel.name == f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        said = file.read(f"{name}.dist-info/METADATA").decode()
    assert {each.split("/")[0] for each in names} == {
        *("keras_moe", f"{name}.dist-info")
    }
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "keras_moe").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= names
    assert f"{name}.dist-info/licenses/LICENSE" in names
    for extra in ("jax", "ann", "cli", "serving", "tfx"):
        assert f"Provides-Extra: {extra}\n" in said


@pytest.mark.large
def test_what_the_source_archive_holds(built):
    _, archive = built
    with tarfile.open(archive) as file:
        names = {each.partition("/")[2] for each in file.getnames()}
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff"):
        assert name in names
    assert not any(name.startswith(("benchmarks", "docs")) for name in names)


@pytest.fixture(scope="module", params=PYTHONS)
def python(request, built, tmp_path_factory):
    """The interpreter of an environment with the wheel, and no extra."""
    version = request.param
    found = shutil.which(f"python{version}", path=path_of_the_system())
    if found is None or not runs(found):
        pytest.skip(f"Python {version} is not on this machine.")
    folder = tmp_path_factory.mktemp(f"python{version}")
    variables = environment.with_index()
    python = folder / "bin" / "python"
    environment.run([UV, "venv", "-q", "--python", found, folder], variables)
    environment.run(
        [UV, "pip", "install", "-q", "--python", python, built[0]], variables
    )
    return python


def path_of_the_system():
    """The path without this environment, whose interpreter may be bound."""
    folders = os.environ["PATH"].split(os.pathsep)
    own = pathlib.Path(sys.prefix).resolve()
    return os.pathsep.join(
        each
        for each in folders
        if own not in pathlib.Path(each).resolve().parents
    )


def runs(python):
    """Tells a Python from a shim of one that was never chosen."""
    return not subprocess.run(
        [python, "-c", ""], capture_output=True
    ).returncode


@pytest.mark.large
@pytest.mark.timeout(1800)
def test_the_example_of_the_readme_runs_as_printed(python, tmp_path):
    example = f"""{readme_example()}
import importlib.util
assert not [n for n in {ABSENT} if importlib.util.find_spec(n)]
assert keras_moe.__version__ == {__version__!r}, keras_moe.__version__
assert "site-packages" in keras_moe.__file__, keras_moe.__file__
"""
    run_example(python, example, tmp_path)
    assert (tmp_path / "exported" / "saved_model.pb").is_file()


@pytest.mark.large
def test_the_command_says_what_it_needs(python):
    done = subprocess.run(
        [python.parent / "keras-moe", "--help"],
        env={name: v for name, v in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert "pip install keras-moe[cli]" in done.stderr


@pytest.mark.large
@pytest.mark.timeout(1800)
def test_jax_trains_the_example(python, built, tmp_path):
    environment.run(
        [UV, "pip", "install", "-q", "--python", python, f"{built[0]}[jax]"],
        environment.with_index(),
    )
    # A SavedModel is TensorFlow's.
    example, _, _ = readme_example().partition("model.export")
    example += 'assert keras.backend.backend() == "jax"\n'
    run_example(python, example, tmp_path, KERAS_BACKEND="jax")


def readme_example():
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return block


def run_example(python, example, folder, **variables):
    """Runs a program as a user would, in the user's own folder."""
    (folder / "example.py").write_text(example)
    ours = ("PYTHONPATH", "KERAS_BACKEND")
    kept = {name: v for name, v in os.environ.items() if name not in ours}
    done = subprocess.run(
        [python, "example.py"],
        cwd=folder,
        env={**kept, "KERAS_HOME": str(folder / "keras"), **variables},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert not done.returncode, done.stderr[-3000:]
