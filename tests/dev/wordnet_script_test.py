"""The script that fetches WordNet, with an apt that fetches what it is told."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from pipelines.search.data.wordnet import FILES

DEV = pathlib.Path(__file__).parents[2] / "dev"
WORDNET = "usr/share/wordnet"
# What stands for Debian's tools: a package is a name, its files are texts.
APT = '#!/bin/sh\ncase "$*" in *download*) touch wordnet-base.deb;; esac\n'
NO_APT = "#!/bin/sh\nexit 100\n"
DPKG = f"""#!/bin/sh
mkdir -p "$3/{WORDNET}"
for name in noun verb adj adv; do echo $name > "$3/{WORDNET}/data.$name"; done
"""


def hashes(script):
    found = re.findall(r"^([0-9a-f]{64})  (\S+?)\"?$", script, re.M)
    return {name: digest for digest, name in found}


@pytest.fixture
def checkout(tmp_path):
    """A checkout with the scripts, and tools that fetch files of one word."""
    shutil.copytree(DEV, tmp_path / "dev")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("apt-get", APT), ("dpkg", DPKG)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return tmp_path


def run(checkout, path="tools"):
    given = os.environ | {"PATH": f"{checkout / path}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "dev/wordnet.sh"],
        cwd=checkout,
        env=given,
        capture_output=True,
        text=True,
    )


def accept_what_is_fetched(checkout):
    """Has the script want the files that the tools above make."""
    import hashlib

    path = checkout / "dev" / "wordnet.sh"
    text = path.read_text()
    for name, digest in hashes(text).items():
        word = name.partition(".")[2] + "\n"
        text = text.replace(digest, hashlib.sha256(word.encode()).hexdigest())
    path.write_text(text)


def test_the_hashes_are_those_of_the_files_that_are_read():
    found = hashes((DEV / "wordnet.sh").read_text())
    assert found.keys() == FILES.keys()
    assert len(set(found.values())) == len(FILES)


def test_it_fetches_once(checkout):
    accept_what_is_fetched(checkout)
    assert run(checkout).returncode == 0
    folder = checkout / "build" / "wordnet" / WORDNET
    assert (folder / "data.noun").read_text() == "noun\n"
    assert not (checkout / "build" / "wordnet.partial").exists()
    again = run(checkout)
    assert (again.returncode, again.stderr) == (0, "")
    # A file that was changed since is fetched anew.
    (folder / "data.noun").write_text("verb\n")
    assert run(checkout).returncode == 0
    assert (folder / "data.noun").read_text() == "noun\n"


def test_other_files_are_refused(checkout):
    failed = run(checkout)
    assert failed.returncode == 1
    assert "other files than those of WordNet 3.0" in failed.stderr
    assert "--wordnet" in failed.stderr
    assert not (checkout / "build" / "wordnet").exists()


def test_a_download_that_fails_says_so(checkout):
    (checkout / "tools" / "apt-get").write_text(NO_APT)
    failed = run(checkout)
    assert failed.returncode == 1
    assert "wordnet-base could not be fetched" in failed.stderr
    assert not (checkout / "build" / "wordnet").exists()
