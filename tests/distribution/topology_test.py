import subprocess
import sys


def test_values_are_the_same_bits_on_any_number_of_replicas(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.distribution.topology_case", tmp_path],
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr[-4000:]
