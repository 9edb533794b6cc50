"""The remote store, for the tests of whatever handles URIs."""

import pytest


@pytest.fixture
def remote(monkeypatch, tmp_path):
    # Late: not all tests of this room need TFX.
    from tests.components.remote_store import remote_store

    with remote_store(monkeypatch, tmp_path) as uri:
        yield uri
