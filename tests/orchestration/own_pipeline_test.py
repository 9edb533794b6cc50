"""The project of docs/own_pipeline.md, as it stands there."""

import importlib
import pathlib
import random
import re
import sys

import pytest
import tensorflow as tf
from rich.console import Console

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "own_pipeline.md"
WORDS = 400

pytestmark = pytest.mark.tfx


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Writes the files that the document names, and a few examples."""
    page = DOCUMENT.read_text()
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.DOTALL)
    for name, text in blocks:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "backwards" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield [name for name, _ in blocks]
    for name in [n for n in sys.modules if n.split(".")[0] == "backwards"]:
        del sys.modules[name]


def write_examples(folder):
    letters = random.Random(0)
    folder.mkdir(parents=True)
    rows = ["word,backwards"]
    for _ in range(WORDS):
        word = "".join(letters.choices("abcdefgh", k=letters.randint(1, 8)))
        rows.append(f"{word},{word[::-1]}")
    (folder / "words.csv").write_text("\n".join(rows) + "\n")


# The default suite has the whole of one pipeline, that of the demo.
@pytest.mark.large
def test_the_whole_project(project, capfd):
    assert len(project) == 7
    runner = importlib.import_module("backwards.local_runner")
    configs = importlib.import_module("backwards.configs")
    # Three updates teach nothing, and the full model is as wrong as an exit.
    flags = ["--steps", "3", "--set", "tolerance=0.9"]
    parser = configs.COMMAND_LINE.parser("backwards")
    _, config = configs.COMMAND_LINE.parse(parser, flags)
    write_examples(config.data_dir)

    assert (
        runner.RUNNER.main(configs.COMMAND_LINE, "backwards", argv=flags) == 0
    )
    said = capfd.readouterr().err
    assert "Pushed version" in said
    (version,) = config.serving_dir.iterdir()
    assert (version / "assets.extra" / "certificate.json").is_file()
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    (name,) = served.structured_input_signature[1]
    answer = served(**{name: tf.constant(["abc", ""])})
    assert {"token_ids", "exit_layer"} <= set(answer)

    again = runner.RUNNER.run(config, Console(quiet=True))
    assert all(run.cached for run in again.runs)
    assert again.pushed_by_earlier_run


def test_it_compiles_for_a_cluster(project, tmp_path):
    module = importlib.import_module("backwards.kubeflow_v2_runner")
    configs = importlib.import_module("backwards.configs")
    config = configs.BackwardsConfig(
        cluster={"output": "gs://bucket/backwards", "image": "backwards:1"}
    )
    job = module.RUNNER.compile(config, tmp_path / "job.json")
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    assert {"CsvExampleGen", "ExitCalibrator", "Pusher"} <= set(tasks)
