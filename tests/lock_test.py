"""`constraints/` locks what `dev/setup.sh` installs, down to the files."""

import importlib.metadata
import pathlib
import re
import runpy
import tomllib

import pytest
import setuptools
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints"
SETUP_SCRIPT = (ROOT / "dev" / "setup.sh").read_text()
EXTRAS = re.search(r"^EXTRAS=([a-z0-9,]+)", SETUP_SCRIPT, re.M)[1].split(",")
PYTHONS = ["3.11", "3.12", "3.13"]
LOCKED = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>\d[\w.+!]*)"
    r"( ; (?P<marker>python_full_version [<=]{1,2} '3[\d.*]+'))?"
    r"( --hash=sha256:[0-9a-f]{64})+"
)


def requirements(name):
    """The lines of a lock, each with its hashes."""
    text = (CONSTRAINTS / name).read_text()
    return re.sub(r" \\\n +", " ", text).splitlines()


def on(python, extra=""):
    """What a marker is asked about."""
    full = f"{python}.4"
    return dict(python_version=python, python_full_version=full, extra=extra)


def versions(name, python=PYTHONS[0]):
    return {
        found["name"]: found["version"]
        for found in map(LOCKED.fullmatch, requirements(name))
        if found
        and (
            not found["marker"] or Marker(found["marker"]).evaluate(on(python))
        )
    }


@pytest.fixture(scope="module")
def metadata():
    """What `setup.py` hands to setuptools."""
    handed = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **kw: handed.update(kw))
        runpy.run_path(str(ROOT / "setup.py"))
    return handed


def with_extras(asked, python):
    """A requirement, and those of the extras that it names."""
    asked = Requirement(asked)
    yield asked
    for extra in asked.extras:
        found = False
        for line in importlib.metadata.requires(asked.name):
            needed = Requirement(line)
            if needed.marker and not needed.marker.evaluate(on(python)):
                if needed.marker.evaluate(on(python, extra)):
                    found = True
                    yield needed
        assert found, f"{asked.name}[{extra}] brings nothing on {python}"


def assert_locked(asked, python):
    locked = versions("packages.txt", python)
    for requirement in asked:
        for needed in with_extras(requirement, python):
            version = locked.get(canonicalize_name(needed.name))
            assert version, f"{needed} is not in the lock"
            assert needed.specifier.contains(version, prereleases=True), (
                f"the lock has {needed.name} {version}, not {needed}"
            )


@pytest.mark.parametrize("name", ["packages.txt", "tools.txt"])
def test_each_requirement_is_pinned_and_hashed(name):
    lines = requirements(name)
    assert lines
    assert [line for line in lines if not LOCKED.fullmatch(line)] == []


def test_the_lock_is_for_the_pythons_that_are_taken(metadata):
    taken = SpecifierSet(metadata["python_requires"])
    around = ["3.10", *PYTHONS, "3.14"]
    assert [each for each in around if f"{each}.4" in taken] == PYTHONS


@pytest.mark.parametrize("python", PYTHONS)
def test_the_core_is_in_the_lock(metadata, python):
    assert_locked(metadata["install_requires"], python)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_is_in_the_lock(metadata, extra, python):
    assert_locked(metadata["extras_require"][extra], python)


@pytest.mark.parametrize("python", PYTHONS)
def test_what_builds_keras_moe_is_in_the_lock(python):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert_locked(project["build-system"]["requires"], python)


def test_the_tools_of_the_set_up_are_locked():
    used = set(re.findall(r'install_tool "\$\w+" (\w+)', SETUP_SCRIPT))
    used |= set(re.findall(r'locked (\w+) "\$TOOLS"', SETUP_SCRIPT))
    assert used == versions("tools.txt").keys()


def test_what_may_be_built_is_in_the_lock():
    names = re.search(r"^WITHOUT_WHEEL=\((.+)\)", SETUP_SCRIPT, re.M)[1].split()
    assert set(names) <= versions("packages.txt").keys()


def test_no_file_names_a_registry():
    files = [path for path in CONSTRAINTS.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert [path.name for path in files if "://" in path.read_text()] == []
