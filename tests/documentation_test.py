"""The pages are built without a warning, and no public name is left out."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import griffe
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "keras_moe"
PAGES = ROOT / "docs" / "api"
# A command has no API, and these two are the library's own.
WITHOUT_PAGE = {"command", "backend", "keras_internals"}
ROOMS = sorted(
    {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - WITHOUT_PAGE
)


def public_names(room):
    """What a room imports under its own name."""
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text())
    return [
        imported.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for imported in node.names
        if imported.asname == imported.name
    ]


@pytest.fixture(scope="module")
def package():
    return griffe.load("keras_moe", search_paths=[ROOT])


def test_the_site_is_built_without_a_warning(tmp_path):
    built = subprocess.run(
        [*(sys.executable, "-m", "mkdocs", "build"), "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    for room in ROOMS:
        page = (tmp_path / "api" / room / "index.html").read_text()
        for name in public_names(room):
            assert f'id="keras_moe.{room}.{name}"' in page
    index = (tmp_path / "index.html").read_text()
    for cell in ("distribution/", "benchmarks/"):  # of README's table
        assert f'<td><a href="{cell}">' in index
    assert "README" not in index


@pytest.mark.parametrize("room", ROOMS)
def test_each_public_name_is_on_the_page_of_its_room(room):
    shown = re.findall(r"^::: (\S+)$", (PAGES / f"{room}.md").read_text(), re.M)
    names = public_names(room)
    assert len(names) > 1
    assert sorted(shown) == sorted(f"keras_moe.{room}.{name}" for name in names)


def test_each_room_has_a_page():
    assert sorted(page.stem for page in PAGES.glob("*.md")) == ROOMS


# Their examples are not run, or by `tests/components/docstring_test.py`.
NOT_RUN = {
    "distribution": {"initialize"},  # several processes
    "serving": {"Client", "RequestLog", "Server", "Tls"},  # a server
}
BESIDE_TFX = ("components", "orchestration")


@pytest.mark.parametrize("room", ROOMS)
def test_each_public_class_and_function_has_an_example(package, room):
    without, fenced = set(), set()
    for name in public_names(room):
        found = package[f"{room}.{name}"]
        documented = found.docstring.value if found.docstring else ""
        if not (found.is_class or found.is_function) or ">>> " in documented:
            continue
        (fenced if "```python\n" in documented else without).add(name)
    assert without == set()
    if room not in BESIDE_TFX:
        assert fenced == NOT_RUN.get(room, set())
