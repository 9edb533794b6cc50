import pytest

from benchmarks.shared import alternating


def test_turns_alternate():
    calls = []
    medians = alternating.median_milliseconds(
        {name: lambda name=name: calls.append(name) for name in "ab"},
        rounds=3,
        warm_up_rounds=1,
    )

    assert "".join(calls) == "baabbaab"
    assert medians.keys() == {"a", "b"}
    with pytest.raises(ValueError, match="`rounds`"):
        alternating.median_milliseconds({}, rounds=0)
