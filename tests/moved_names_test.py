import importlib

import pytest

from keras_moe.moved_names import MOVED

CASES = [(room, name) for room in MOVED for name in MOVED[room]]


@pytest.mark.parametrize(("room", "name"), CASES)
def test_old_names_lead_to_todays(room, name):
    if room == "keras_moe.components":
        pytest.importorskip("tfx")
    place, _, today = MOVED[room][name].rpartition(".")
    old = importlib.import_module(room)
    assert name not in vars(old)
    with pytest.warns(DeprecationWarning, match=f"is now `{place}.{today}`"):
        found = getattr(old, name)
    assert found is getattr(importlib.import_module(place), today)


@pytest.mark.parametrize(
    "room", [r for r in MOVED if r != "keras_moe.components"]
)
def test_other_names_are_missing(room):
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        importlib.import_module(room).__getattr__("nothing")
