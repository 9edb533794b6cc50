"""The examples run as their heads say, and use what is public."""

import ast
import os
import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples/notebooks").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES + NOTEBOOKS, ids=lambda p: p.name)
def test_examples_import_rooms_alone(path):
    # `lint-imports` says the same of the packages; examples are no package.
    imported = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported += [f"{node.module}.{alias.name}" for alias in node.names]
    assert any(name.startswith("keras_moe") for name in imported)
    private = [
        name
        for name in imported
        if any(part.startswith("_") for part in name.split("."))
    ]
    assert not private


@pytest.mark.parametrize("path", EXAMPLES + NOTEBOOKS, ids=lambda p: p.name)
def test_heads_say_command_time_and_what_to_expect(path):
    # Colons and columns are those of `examples/quickstart.py`.
    head = ast.get_docstring(ast.parse(path.read_text()))
    file = path.relative_to(ROOT)
    assert re.search(rf"^Command:  .*\bpython {file}\b", head, re.M)
    assert re.search(r"^Time:     .*minute.* on two cores$", head, re.M)
    assert re.search(r"^Expected: \w", head, re.M)


def test_page_names_each_example():
    page = (ROOT / "docs/examples.md").read_text()
    named = re.findall(r"`examples/([\w/]+\.py)`", page)
    paths = [path.relative_to(ROOT / "examples") for path in EXAMPLES]
    paths += [path.relative_to(ROOT / "examples") for path in NOTEBOOKS]
    assert sorted(named) == sorted(map(str, paths))


@pytest.fixture
def examples(monkeypatch):
    """Lets the examples' data be imported, as for a script beside them."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "data"]:
        del sys.modules[name]


@pytest.fixture
def wordnet(tmp_path, monkeypatch):
    """A dictionary of few words, whose topic the first word tells."""
    for offset, part in enumerate(("noun", "verb", "adj", "adv")):
        lines = [
            f"{number:08} {number % 3:02} n 01 word_{number} 0 000 "
            f'| kind{number % 3} of thing {number}; "an example"  \n'
            for number in range(offset, 2400, 4)
        ]
        licence = "  1 This is a licence | of words\n"
        (tmp_path / f"data.{part}").write_text(licence + "".join(lines))
    monkeypatch.setenv("WORDNET", str(tmp_path))


def test_glosses_are_read(examples, wordnet):
    from data import glosses

    read = glosses.load(most=100)
    assert len(read.texts) == len(set(read.words)) == 100
    for word, text, topic in zip(*read, strict=True):
        number = int(word.removeprefix("word "))
        assert (text, topic) == (f"kind{topic} of thing {number}", number % 3)


def test_glosses_that_are_not_there(examples, monkeypatch, tmp_path):
    from data import glosses

    monkeypatch.setattr(glosses, "_FOLDERS", (tmp_path,))
    monkeypatch.setenv("WORDNET", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="`make wordnet` fetches it"):
        glosses.load()


def test_numbers_are_spelled(examples):
    from data import numbers

    pairs = numbers.load(600)
    assert pairs.sources.shape == (600, numbers.SOURCE_LENGTH)
    assert pairs.targets.shape == (600, numbers.TARGET_LENGTH)
    # Of each length, and the end, about a hundred.
    lengths = np.bincount((pairs.sources > 0).sum(axis=1))
    assert all(70 < count < 130 for count in lengths[2:])
    assert lengths.sum() == lengths[2:].sum() == 600
    assert " ".join(numbers.spell(0)) == "zero"
    words = "nine hundred ninety nine thousand one hundred twelve"
    assert " ".join(numbers.spell(999_112)) == words
    for source, target in zip(*pairs, strict=True):
        digits = "".join(numbers.SYMBOLS[i] for i in source if i > 1)
        assert numbers.decode(target).split() == numbers.spell(int(digits))


def test_classify_text(examples, wordnet, monkeypatch, capsys):
    # The one that runs by default: here, since to start a process takes longer.
    script = ROOT / "examples/classify_text.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--quick"])
    runpy.run_path(str(script), run_name="__main__")
    shares = re.findall(r"([\d.]+)% right", capsys.readouterr().out)
    assert len(shares) == 2
    assert all(float(share) > 50 for share in shares)


# What each prints in a short run. Shares of the right are above chance.
PRINTED = {
    "cascade": r"deferred: (\d+\.\d)%",
    "classify_text": r"sparse: [\d,]+ weights, (\d+\.\d)% right",
    "distil_and_serve": r"(?:served: .*\n){2}",
    "early_exit_generation": r"early exit: .* right, ([1-4]\.\d\d) layers",
    "expert_choice_encoder": r"expert_choice: (\d+\.\d)% .* loads 0\.00",
    "long_text": r"largest difference from the whole pass \de-0[4-9]",
    "search": r"a shop that sells meat\n(?:   .+\n){5}",
    "upcycle": r"largest difference of the first answers: (?:0|\de-0[6-9])",
}


def test_each_example_has_a_short_run():
    # `tests/readme_test.py` runs the quickstart.
    assert {path.stem for path in EXAMPLES} == {*PRINTED, "quickstart"}


@pytest.mark.large
@pytest.mark.parametrize("name", PRINTED)
def test_short_run(name):
    printed = run(ROOT / f"examples/{name}.py", "--quick")
    assert re.search(PRINTED[name], printed), printed


@pytest.mark.large
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_notebook(path):
    printed = run(path)
    assert printed.endswith("pictures: build/notebooks\n")


def run(path, *arguments):
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
