"""Reads the data, and builds the pipeline without running it."""

import importlib
import pathlib

configs = importlib.import_module("$project.configs")
runner = importlib.import_module("$project.local_runner")


def config_of(output):
    """Returns the configuration of config.yaml, with a place of its own."""
    parser = configs.COMMAND_LINE.parser("test")
    flags = ["--config", "config.yaml", "--output", str(output)]
    return configs.COMMAND_LINE.parse(parser, flags)[1]


def test_every_split_has_examples(tmp_path):
    """A split without an example would stop the run."""
    span = configs.prepare(config_of(tmp_path))
    assert all(span.counts.values())
    assert span.records("test").is_file()


def test_the_pipeline_ends_with_a_push(tmp_path):
    """Names of components are those that the runner asks for."""
    pipeline = importlib.import_module("$project.pipeline")
    made = pipeline.create_pipeline(config_of(tmp_path))
    assert made.components[-1].id == "Pusher"
    assert pathlib.Path(made.pipeline_info.pipeline_root).parent == tmp_path
