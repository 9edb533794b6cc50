import pytest

from keras_moe.layers.attention._masks import refuse


def test_a_reason_may_hold_braces():
    refuse("{other}", bias=None, flag=False)
    with pytest.raises(ValueError) as caught:
        refuse("No `{name}`, as in {a: 1} or {}.", bias=3)
    assert str(caught.value) == (
        "No `bias`, as in {a: 1} or {}. Received: bias of type int."
    )
