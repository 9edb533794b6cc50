"""What the contracts look at is all there is."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# Of `keras-moe new`: text that is copied, which nobody imports from here.
TEMPLATES = ROOT / "keras_moe" / "command" / "templates"


@pytest.mark.parametrize("package", ["keras_moe", "pipelines", "benchmarks"])
def test_every_folder_of_code_is_a_package(package):
    # import-linter passes by a folder without the file, and by all below it.
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    without = [
        folder
        for folder in folders
        if not (folder / "__init__.py").is_file()
        and TEMPLATES not in folder.parents
    ]
    assert ROOT / package in folders
    assert not without
