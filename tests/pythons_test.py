"""What one Python writes another reads, and computes the same, bit for bit.

The others are the environments that `make setup VERSION=...` left here.
"""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.large
ROOT = pathlib.Path(__file__).parents[1]
HERE = pathlib.Path(sys.prefix).resolve()
OTHERS = [
    path.name
    for path in sorted(ROOT.glob(".venv*"))
    if path.resolve() != HERE and (path / ".ready").is_file()
]


def run(python, goal, folder):
    subprocess.run(
        [python, "-m", "tests.other_python", goal, folder], cwd=ROOT, check=True
    )


@pytest.mark.parametrize("writer", ["this", "the other"])
@pytest.mark.parametrize("other", OTHERS)
def test_the_other_python_reads_the_same(other, writer, tmp_path):
    pythons = [sys.executable, ROOT / other / "bin" / "python"]
    if writer == "the other":
        pythons.reverse()
    run(pythons[0], "write", tmp_path)
    run(pythons[1], "read", tmp_path)
    read = np.load(tmp_path / "read.npz")
    written = np.load(tmp_path / "written.npy")
    for form in ("loaded", "exported", "restored"):
        np.testing.assert_array_equal(read[form], written, err_msg=form)
    np.testing.assert_array_equal(
        read["trained_on"], np.load(tmp_path / "trained_on.npy")
    )
