import pytest
import tensorflow as tf

from pipelines.search.modules.features import status_of


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("a pet that barks", "ok"),
        ("dog", "ok"),
        ("d. o; g!", "ok"),
        # Letters of other alphabets are letters.
        ("\u732b\u3068\u72ac", "ok"),
        ("\u00e9t\u00e9", "ok"),
        ("", "too_short"),
        ("of", "too_short"),
        ("a 12 ? b 34", "too_short"),
        ("\u00e9t" + "\u0301" * 9, "too_short"),
        ("x" * 1000, "ok"),
        ("x" * 1001, "too_long"),
        ("\u00e9" * 1000, "ok"),
        # Not UTF-8 at all.
        (b"\xff\xfe", "too_short"),
    ],
)
def test_statuses(text, status):
    (found,) = status_of(tf.constant([text])).numpy()
    assert found.decode() == status
