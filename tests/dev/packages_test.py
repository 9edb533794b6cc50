"""What the contracts look at is all there is."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("package", ["keras_moe", "pipelines", "benchmarks"])
def test_every_folder_of_code_is_a_package(package):
    # import-linter passes by a folder without the file, and by all below it.
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    without = [each for each in folders if not (each / "__init__.py").is_file()]
    assert ROOT / package in folders
    assert not without
