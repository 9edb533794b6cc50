import dataclasses
import json
import os

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_moe import calibration
from keras_moe import weights
from keras_moe.calibration._evidence import check_p_values

POLICY = {
    "confidence": "softmax",
    "min_exit_layer": 1,
    "decay": None,
    "inner": {"deferred": True, "sizes": [1, 2.5]},
}


def make(**changes):
    losses = np.random.default_rng(0).random([1000, 3]) < (0.0, 0.01, 0.2)
    arguments = {"policy": POLICY, "fingerprint": "abc", **changes}
    return calibration.calibrate(losses, (0.9, 0.8, 0.7), 0.05, **arguments)


def write(path, **changes):
    """Writes a certificate whose fields were changed by hand."""
    document = {**json.loads(make().to_json()), **changes}
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("p_value", ["hoeffding_bentkus", "betting", "binary"])
def test_round_trip(tmp_path, p_value):
    certificate = make(p_value=p_value)
    certificate.save(tmp_path / "certificate.json")
    loaded = calibration.Certificate.load(str(tmp_path / "certificate.json"))
    assert loaded == certificate
    assert loaded.threshold == 0.8
    assert os.listdir(tmp_path) == ["certificate.json"]


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.floats(1e-9, 1 - 1e-9),
    st.floats(-1e300, 1e300),
)
def test_numbers_survive_exactly(p_values, tolerance, start):
    thresholds = start - np.arange(len(p_values)) * max(abs(start), 1.0)
    try:
        certificate = calibration.calibrate(
            np.random.default_rng(0).random([7, len(p_values)]),
            thresholds,
            tolerance,
            0.3,
            p_value=lambda losses, tolerance: p_values,
        )
    except calibration.NotCertifiedError:
        return
    again = calibration.Certificate.from_json(
        certificate.to_json(), custom_p_values=None
    )
    assert again == certificate


def test_the_file_is_plain_json(tmp_path):
    make().save(tmp_path / "c.json")
    document = json.loads(
        (tmp_path / "c.json").read_text(), parse_constant=pytest.fail
    )
    assert document["threshold"] == 0.8
    assert document["policy"] == POLICY
    assert document["format_version"] == 1
    assert set(document) == {
        field.name for field in dataclasses.fields(calibration.Certificate)
    }


def test_numpy_becomes_plain():
    certificate = make(
        policy={"size": np.int64(3), "rate": np.float32(0.5), "pair": (1, 2)}
    )
    assert certificate.policy == {"size": 3, "rate": 0.5, "pair": [1, 2]}
    again = calibration.Certificate.from_json(
        certificate.to_json(), custom_p_values=None
    )
    assert again == certificate


def test_the_policy_is_a_copy():
    policy = {"inner": {"a": 1}}
    certificate = make(policy=policy)
    policy["inner"]["a"] = 2
    assert certificate.policy == {"inner": {"a": 1}}


def test_a_failed_save_leaves_what_was(tmp_path, monkeypatch):
    path = tmp_path / "certificate.json"
    make().save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        make(fingerprint="other").save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["certificate.json"]


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"threshold": 0.75}, "must be one of `thresholds`.*0.75"),
        ({"threshold": 0.7}, r"last that these p-values certify, 0\.8.*0\.7"),
        ({"threshold": 0.9}, r"last that these p-values certify, 0\.8.*0\.9"),
        ({"threshold": "0.8"}, "`threshold` must be a number.*'0.8'"),
        ({"threshold": True}, "`threshold` must be a number"),
        ({"threshold": None}, "`threshold` must be a number"),
        # What was granted for 0.05 is not shown for less.
        ({"tolerance": 0.02}, "`p_values` must be those of the risks"),
        ({"tolerance": 1.5}, "`tolerance` must be between"),
        ({"tolerance": 10**400}, "`tolerance` must be finite"),
        ({"n": 2000}, "`p_values` must be those of the risks"),
        ({"n": 0}, "`n` must be a positive integer"),
        ({"n": 10.0}, "`n` must be a positive integer"),
        ({"n": True}, "`n` must be a positive integer"),
        ({"n": 10**400}, "`n` must be a number of examples"),
        ({"confidence_level": 1}, "`confidence_level` must be between"),
        ({"confidence_level": 1 - 1e-12}, r"certify, 0\.9\. Received"),
        ({"risks": [0.0, 0.0, 0.0]}, "`p_values` must be those of the risks"),
        ({"risks": [0.0, 0.0]}, "`risks` must be as many as `thresholds`, 3"),
        ({"risks": [0.0, 0.0, 2.0]}, r"`risks` must be in \[0, 1\]"),
        ({"p_values": [0.0, 0.0, 0.0]}, "must be those of the risks"),
        ({"p_values": [0.0, None, 0.0]}, "`p_values` must be a number"),
        ({"p_values": 0.0}, "`p_values` must be a list of numbers"),
        ({"p_values": "000"}, "`p_values` must be a list of numbers"),
        ({"thresholds": [0.9, 0.9, 0.8]}, "strictly decrease"),
        ({"thresholds": []}, r"thresholds\.shape=\(0,\)"),
        ({"p_value": None}, "`p_value` must be a string"),
        (
            {"p_value": "mine", "risks": [1.0] * 3, "p_values": [0.0, 0.0, 1]},
            "`p_value` must be one of",
        ),
        (
            {"p_value": "betting", "risks": [1.0] * 3, "p_values": [0, 0, 1]},
            "`p_values` must be at least what bets",
        ),
        ({"correction": "none"}, "`correction` must be one of"),
        ({"correction": ["holm"]}, "`correction` must be a string"),
        ({"policy": ["softmax"]}, "`policy` must be a dictionary"),
        ({"policy": {"threshold": 1}}, "must not hold the threshold"),
        ({"fingerprint": 3}, "`fingerprint` must be a string"),
        ({"format_version": 2}, "`format_version` must be 1"),
        ({"format_version": True}, "`format_version` must be 1"),
        ({"extra": 1}, r"unknown: \['extra'\]"),
    ],
)
def test_what_was_tampered_with_is_refused(tmp_path, changes, match):
    path = tmp_path / "certificate.json"
    write(path, **changes)
    with pytest.raises(ValueError, match=match) as raised:
        calibration.Certificate.load(path)
    assert str(raised.value).startswith(f"{path} is not a certificate. ")


@pytest.mark.parametrize(
    "field", [f.name for f in dataclasses.fields(calibration.Certificate)]
)
def test_all_fields_must_be_there(tmp_path, field):
    document = json.loads(make().to_json())
    del document[field]
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"Missing: \['{field}'\]"):
        calibration.Certificate.load(path)


@pytest.mark.parametrize(
    "data, match",
    [
        (b"", "is not a certificate"),
        (b"{", "is not a certificate"),
        (b"\xff\xfe", "is not a certificate"),
        (b"[]", "must hold an object. Received: list"),
        (b'{"threshold": NaN}', "must be finite. Received: NaN"),
        (b'{"threshold": -Infinity}', "Received: -Infinity"),
        (b'{"n": 1, "n": 2}', r"Twice: \['n'\]"),
    ],
)
def test_other_files_are_refused(tmp_path, data, match):
    path = tmp_path / "certificate.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=match) as raised:
        calibration.Certificate.load(path)
    assert str(path) in str(raised.value)


def test_a_number_too_large_for_a_float(tmp_path):
    path = tmp_path / "certificate.json"
    path.write_text(
        make().to_json().replace('"tolerance": 0.05', '"tolerance": 1e999')
    )
    with pytest.raises(ValueError, match="`tolerance` must be finite"):
        calibration.Certificate.load(path)


def test_check_passes():
    certificate = make()
    certificate.check(fingerprint="abc")
    certificate.check(policy=POLICY)
    # Integers of a float's value are equal, as are tuples and lists.
    same = {**POLICY, "min_exit_layer": 1.0}
    same["inner"] = {"deferred": True, "sizes": (1.0, 2.5)}
    certificate.check(fingerprint="abc", policy=same)


def test_check_names_all_that_differs():
    other = {
        "confidence": "state",
        "min_exit_layer": True,
        "inner": {"deferred": True, "sizes": [1, 2]},
        "shortlist": 5,
    }
    with pytest.raises(ValueError) as raised:
        make().check(fingerprint="abd", policy=other)
    assert str(raised.value) == (
        "The certificate is not one for what was given: "
        "fingerprint was 'abc', is 'abd'; "
        "policy.confidence was 'softmax', is 'state'; "
        "policy.decay was None, is not given; "
        "policy.inner.sizes was [1, 2.5], is [1, 2]; "
        "policy.min_exit_layer was 1, is True; "
        "policy.shortlist was not there, is 5."
    )


def test_check_refuses_what_was_not_recorded():
    certificate = make(policy=None, fingerprint=None)
    with pytest.raises(ValueError, match="fingerprint was None, is 'abc'"):
        certificate.check(fingerprint="abc")
    with pytest.raises(ValueError, match="policy was None, is {"):
        certificate.check(policy=POLICY)


def test_an_old_naming_of_weights_is_refused_by_name(tmp_path):
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    now = weights.fingerprint(model)
    path = tmp_path / "certificate.json"
    for old, version in (("0123456789abcdef" * 4, 1), ("3:" + now[2:], 3)):
        write(path, fingerprint=old)
        certificate = calibration.Certificate.load(path)
        with pytest.raises(ValueError, match="another naming of weights") as e:
            certificate.check(fingerprint=now)
        assert f"(version {version}; the fingerprint at hand has 2)" in str(
            e.value
        )
        certificate.check(policy=POLICY)
    write(path, fingerprint=now)
    calibration.Certificate.load(path).check(fingerprint=now)
    # A model of the same naming is another model.
    write(path, fingerprint="2:" + "0" * 64)
    with pytest.raises(ValueError, match="fingerprint was '2:000"):
        calibration.Certificate.load(path).check(fingerprint=now)


def test_check_wants_something():
    with pytest.raises(ValueError, match="Received: neither"):
        make().check()
    with pytest.raises(ValueError, match="must not hold the threshold"):
        make().check(policy={**POLICY, "threshold": 0.8})


@pytest.mark.parametrize(
    "policy, match",
    [
        ({1: 2}, "strings for keys"),
        ({"a": {"b": [0, np.inf]}}, r"`policy\.a\.b\.1` must be a plain"),
        ({"a": object()}, r"`policy\.a` must be a plain value"),
        ({"a": np.ones(2)}, r"`policy\.a` must be a plain value"),
    ],
)
def test_policies_must_be_plain(policy, match):
    with pytest.raises(ValueError, match=match):
        make(policy=policy)


def test_it_cannot_be_changed():
    certificate = make()
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate.threshold = 0.1
    with pytest.raises(ValueError, match="last that these p-values certify"):
        dataclasses.replace(certificate, threshold=0.7)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0.01, 0.9))
def test_no_losses_have_bets_below_what_a_certificate_allows(losses, tolerance):
    losses = np.sort(losses)[:, None]  # the order that bets gain most from
    p_values = calibration.betting_p_value(losses, tolerance, level=0.05)
    check_p_values(
        "betting", p_values, losses.mean(axis=0), len(losses), tolerance
    )


def test_a_custom_p_value_is_read_where_it_is_named():
    def mine(losses, tolerance):
        return np.zeros(losses.shape[1])

    text = make(p_value=mine).to_json()
    read = calibration.Certificate.from_json(text, custom_p_values=["mine"])
    assert read.p_value == "mine"
