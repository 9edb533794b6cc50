import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types import standard_artifacts

from keras_moe import components
from keras_moe.components.gates._anomaly_gate import AnomalyGateExecutor
from tests.components.artifacts_of import artifact

pytestmark = pytest.mark.tfx


def run(tmp_path, by_split):
    anomalies = artifact(
        standard_artifacts.ExampleAnomalies, tmp_path / "in", by_split
    )
    for split, proto in by_split.items():
        folder = tmp_path / "in" / f"Split-{split}"
        folder.mkdir()
        (folder / "SchemaDiff.pb").write_bytes(proto.SerializeToString())
    blessing = artifact(components.DataBlessing, tmp_path / "out")
    AnomalyGateExecutor().Do(
        {"anomalies": [anomalies]}, {"blessing": [blessing]}, {}
    )
    return blessing


def anomalous(**features):
    proto = anomalies_pb2.Anomalies()
    for name, text in features.items():
        proto.anomaly_info[name].description = text
    return proto


def test_clean_data_pass(tmp_path):
    blessing = run(tmp_path, {"train": anomalous(), "validation": anomalous()})
    assert blessing.get_int_custom_property("blessed") == 1


def test_an_anomaly_in_any_split_closes_the_gate(tmp_path):
    with pytest.raises(components.GateClosedError) as raised:
        run(
            tmp_path,
            {
                "train": anomalous(),
                "validation": anomalous(letters="Unexpected\nvalue: ~."),
            },
        )
    assert str(raised.value) == (
        "the data are anomalous: letters (validation): Unexpected value: ~"
    )


def test_many_anomalies_are_counted(tmp_path):
    many = anomalous(**{f"f{i}": "Wrong." for i in range(5)})
    many.dataset_anomaly_info.description = "Too few."
    with pytest.raises(components.GateClosedError, match="and 3 more$"):
        run(tmp_path, {"train": many})


def test_the_component_takes_anomalies():
    from tfx.types import channel_utils

    channel = channel_utils.as_channel([standard_artifacts.ExampleAnomalies()])
    gate = components.AnomalyGate(anomalies=channel)
    assert gate.outputs["blessing"].type is components.DataBlessing
