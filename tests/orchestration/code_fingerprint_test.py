"""Fingerprints tell edits apart, and nothing else."""

import importlib
import sys
import types

import pytest

import keras_moe
from keras_moe.orchestration import _code_fingerprint
from keras_moe.orchestration import code_fingerprint
from keras_moe.orchestration import training_fingerprint
from keras_moe.orchestration._code_fingerprint import source_files

FILES = {
    "toys/__init__.py": "",
    "toys/a.py": "x = 1\n",
    "toys/inner/__init__.py": "",
    "toys/inner/b.py": "x = 1\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Writes a package, and returns a function that forgets what was read."""

    def write(folder="here", files=FILES):
        for name, text in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in [n for n in sys.modules if n.split(".")[0] == "toys"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "path", [str(tmp_path / folder), *sys.path])
        importlib.invalidate_caches()
        _code_fingerprint._fingerprint.cache_clear()
        _code_fingerprint._files.cache_clear()

    write()
    yield write
    _code_fingerprint._fingerprint.cache_clear()
    _code_fingerprint._files.cache_clear()


def test_an_edit_changes_it_and_another_checkout_does_not(project):
    before = code_fingerprint("toys")
    project("there")
    assert code_fingerprint("toys") == before
    project(files={"toys/inner/b.py": "x = 2\n"})
    assert code_fingerprint("toys") != before


def test_a_file_renamed_or_new_changes_it(project, tmp_path):
    before = code_fingerprint("toys")
    (tmp_path / "here/toys/a.py").rename(tmp_path / "here/toys/c.py")
    project(files={})
    renamed = code_fingerprint("toys")
    assert renamed != before
    project(files={"toys/d.py": ""})
    assert code_fingerprint("toys") not in (before, renamed)


def test_files_are_read_once_a_process(project, tmp_path):
    before = code_fingerprint("toys.a")
    (tmp_path / "here/toys/a.py").write_text("x = 3\n")
    assert code_fingerprint("toys.a") == before


def test_the_order_of_modules_does_not_count(project):
    assert code_fingerprint("toys.a", "toys.inner") == code_fingerprint(
        "toys.inner", "toys.a"
    )


def test_packages_stand_for_what_is_below_them(project):
    assert set(source_files(("toys",), ())) == set(FILES)
    assert set(source_files(("toys.a",), ())) == {"toys/a.py"}
    left = set(source_files(("toys",), ("toys.inner",)))
    assert left == {"toys/__init__.py", "toys/a.py"}
    # What is named itself counts all the same.
    assert set(source_files(("toys", "toys.inner.b"), ("toys.inner",))) == {
        *left,
        "toys/inner/b.py",
    }


def test_a_name_that_begins_like_another(project):
    project(files={"toys/inner_more.py": ""})
    assert "toys/inner_more.py" in source_files(("toys",), ("toys.inner",))


def test_modules_and_their_names_are_the_same(project):
    toys = importlib.import_module("toys")
    assert code_fingerprint(toys) == code_fingerprint("toys")
    assert code_fingerprint(keras_moe.ops) == code_fingerprint("keras_moe.ops")


def test_training_is_the_project_and_the_library(project):
    before = training_fingerprint("toys")
    assert before != training_fingerprint("toys.a")
    project(files={"toys/a.py": "x = 2\n"})
    assert training_fingerprint("toys") != before


@pytest.mark.parametrize("name", ["toys.nothing", "sys", "no_such_package"])
def test_what_has_no_source(project, name):
    with pytest.raises(ModuleNotFoundError, match=f"Received: '{name}'"):
        code_fingerprint(name)


def test_a_module_made_by_hand():
    with pytest.raises(ModuleNotFoundError, match="Received: 'no_file'"):
        code_fingerprint(types.ModuleType("no_file"))
